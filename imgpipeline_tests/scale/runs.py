"""Dagster's runs as the scale test sees them: which worker has one, and when its work was requested again."""

from collections.abc import Iterable
from datetime import datetime

import dagster as dg
from celery.result import AsyncResult
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from imgpipeline.defs.lost_runs import as_utc, ended_at
from imgpipeline.defs.partitions import days_of_run
from imgpipeline.defs.run_tags import LANE_TAG
from imgpipeline_tests.scale.place import ScalePlace

FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def all_runs(place: ScalePlace) -> list[dg.RunRecord]:
    """Return all runs, newest first."""
    return list(place.instance.get_run_records())


def with_status(place: ScalePlace, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
    return place.instance.get_runs(dg.RunsFilter(statuses=list(statuses)))


def runs_on(place: ScalePlace, worker: str) -> list[dg.DagsterRun]:
    """Return the runs that a worker executes."""
    return [run for run in with_status(place, dg.DagsterRunStatus.STARTED) if _worker_of(place, run) == worker]


def _worker_of(place: ScalePlace, run: dg.DagsterRun) -> str | None:
    result: AsyncResult = place.instance.run_launcher.celery.AsyncResult(run.tags[DAGSTER_CELERY_TASK_ID_TAG])
    return result.info.get("hostname") if isinstance(result.info, dict) else None


def is_same_work(one: dg.DagsterRun, other: dg.DagsterRun) -> bool:
    """Tell whether two runs follow the same lane, or build a day that both are for."""
    if LANE_TAG in one.tags:
        return one.tags[LANE_TAG] == other.tags.get(LANE_TAG)
    return not set(days_of_run(one)).isdisjoint(days_of_run(other))


def requested_again_at(failed: dg.RunRecord, records: Iterable[dg.RunRecord]) -> datetime | None:
    """Return when the work of a failed run was first requested again, UTC; None if it was not."""
    later = [
        created
        for record in records
        if is_same_work(failed.dagster_run, record.dagster_run)
        and (created := as_utc(record.create_timestamp)) >= ended_at(failed)
    ]
    return min(later, default=None)
