"""Runs that ended lately, as Dagster's storage has them: metrics of a site."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

import dagster as dg

from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.errors import TransientError

_SINCE = timedelta(hours=1)
_RUNS_READ = 1000
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]


@dataclass(slots=True)
class RecentRuns:
    """Runs of one kind of work."""

    failed: int = 0
    newest_s: float | None = None
    """How long the newest run that succeeded took; None without one."""


def read_recent_runs(now: datetime) -> Mapping[str, RecentRuns]:
    """Returns the runs of the last hour that ended, by kind of work (or by job, for runs without one).

    Raises:
        TransientError: Dagster's storage cannot be read.
    """
    try:
        records = _instance(os.environ["DAGSTER_HOME"]).get_run_records(
            dg.RunsFilter(statuses=_ENDED, updated_after=now - _SINCE), limit=_RUNS_READ
        )
    except Exception as error:  # Dagster, SQLAlchemy and each storage have families of their own
        raise TransientError(
            f"Dagster's storage cannot be read ({type(error).__name__}).",
            next_step="check DAGSTER_HOME, its dagster.yaml and the database that this names",
        ) from error
    found: dict[str, RecentRuns] = {}
    for record in records:  # newest first
        run = record.dagster_run
        runs = found.setdefault(run.tags.get(WORK_TAG, run.job_name), RecentRuns())
        if run.is_failure:
            runs.failed += 1
        elif runs.newest_s is None and record.start_time and record.end_time:
            runs.newest_s = record.end_time - record.start_time
    return found


@cache
def _instance(_home: str) -> dg.DagsterInstance:
    """Returns Dagster's storage, opened once per home: Dagster reads all of its migrations when it is opened."""
    return dg.DagsterInstance.get()
