"""Runs of the last hour, as Dagster's storage has them, for the metrics of a site."""

import os
from collections import Counter
from datetime import datetime, timedelta
from functools import cache

import dagster as dg

from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.errors import TransientError


def read_recent_runs(now: datetime) -> tuple[Counter[str], dict[str, float]]:
    """Returns failures of the last hour, and how many seconds the newest success took, both by kind of work (or job).

    Raises:
        TransientError: Dagster's storage cannot be read.
    """
    lately = dg.RunsFilter(updated_after=now - timedelta(hours=1))
    try:
        records = _instance(os.environ["DAGSTER_HOME"]).get_run_records(lately, limit=1000)
    except Exception as error:  # Dagster, SQLAlchemy and each storage have families of their own
        raise TransientError(
            f"Dagster's storage cannot be read ({type(error).__name__}).",
            next_step="check DAGSTER_HOME, its dagster.yaml and the database that this names",
        ) from error
    failed, seconds = Counter[str](), dict[str, float]()
    for record in records:  # newest first
        work = record.dagster_run.tags.get(WORK_TAG, record.dagster_run.job_name)
        failed[work] += record.dagster_run.is_failure
        if record.dagster_run.is_success and record.start_time and record.end_time:
            seconds.setdefault(work, record.end_time - record.start_time)
    return failed, seconds


@cache
def _instance(_home: str) -> dg.DagsterInstance:
    """Returns Dagster's storage, opened once per home: Dagster reads all of its migrations when it is opened."""
    return dg.DagsterInstance.get()
