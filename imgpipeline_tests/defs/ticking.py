"""Evaluates a schedule in the test process."""

from datetime import datetime

import dagster as dg

from imgpipeline.definitions import defs
from imgpipeline.defs.resources import Pipeline


def tick(schedule: dg.ScheduleDefinition, at: datetime) -> list[dg.RunRequest] | str:
    """Return what a schedule requests at a time, or why it does nothing."""
    resources = {"pipeline": Pipeline()}
    with dg.build_schedule_context(
        scheduled_execution_time=at, resources=resources, repository_def=defs.get_repository_def()
    ) as context:
        data = schedule.evaluate_tick(context)
    return list(data.run_requests or []) or str(data.skip_message)
