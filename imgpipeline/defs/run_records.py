"""Reads detection runs from Dagster as the input of `stream.lanes`, and marks runs as failed.

The tag `ENDS_TAG` of a run has the end of the ledger in each partition with lag; the back-off counts the runs that fail
at the same ends.
"""

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from imgpipeline.defs.detection_job import JOB_NAME, lane_of
from imgpipeline.defs.lost_runs import (
    LAUNCHED,
    as_utc,
    end_process,
    ended_at,
    is_gone,
    is_lost,
    is_orphan,
    uses_processes,
)
from imgpipeline.defs.run_tags import ENDING_TAG, FAILURE_TAG, PROCESS_TAG, noted, read_ends, read_noted
from imgpipeline.errors import ConfigurationError
from imgpipeline.stream.lanes import Ending, FailedRun, Lane, LiveRun, Place

LOG = logging.getLogger(__name__)
_MOST_ENDS = 64
"""Maximum number of partitions in a tag, because databases index tags and reject long ones."""
FAILURES_READ = 100
_FAILURES_SINCE = timedelta(hours=6)
_WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]


def live_runs(instance: dg.DagsterInstance, now: datetime, serving_since: datetime) -> list[LiveRun]:
    """Returns the detection runs that have not ended according to Dagster.

    Args:
        now: The clock, UTC.
        serving_since: When this code server started, UTC.
    """
    records = instance.get_run_records(dg.RunsFilter(job_name=JOB_NAME, statuses=[*_WAITING, *LAUNCHED]))
    return [run for record in records if (run := _live_run(instance, record, now, serving_since)) is not None]


def failed_runs(instance: dg.DagsterInstance, now: datetime) -> list[FailedRun]:
    """Returns the detection runs that failed recently, newest first."""
    records = instance.get_run_records(
        dg.RunsFilter(job_name=JOB_NAME, statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - _FAILURES_SINCE),
        limit=FAILURES_READ,
    )
    failures = []
    for record in records:
        lane = _lane(record.dagster_run)
        if lane is not None:
            run = record.dagster_run
            ends = parse_ends(read_ends(run))
            reason = read_noted(run, FAILURE_TAG) or ""
            failures.append(FailedRun(run.run_id, lane, ended_at(record), ends, _ending(run), reason))
    return failures


def mark_failed(instance: dg.DagsterInstance, run_id: str, reason: str) -> None:
    """Marks a run that another run takes over as failed, and ends its process if possible.

    Only the default launcher's process is killed; any other launcher is asked to terminate the run. If the process
    survives on another machine, it does no harm: the ledger does not accept an offset twice.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return
    process = read_noted(run, PROCESS_TAG)
    now = datetime.now(UTC)
    is_dead = is_gone(process) if uses_processes(instance) else is_lost(instance, run, now=now, serving_since=now)
    ending = _ending(run) if process is None or is_dead else Ending.HUNG
    instance.add_run_tags(run_id, noted(run_id, ENDING_TAG, ending.value))  # before Dagster sees it gone
    is_ended = end_process(process) if uses_processes(instance) else _terminate(instance, run_id)
    killed = " Its process was ended." if is_ended else ""
    instance.report_run_failed(run, f"Taken over by another run: {reason}.{killed} Nothing is lost or counted twice.")


def _terminate(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Asks the launcher to end a run; one that cannot (its broker may be away) must not stop the takeover."""
    try:
        return instance.run_launcher.terminate(run_id)
    except Exception:
        LOG.warning("The launcher could not terminate run %s, which was taken over.", run_id, exc_info=True)
        return False


def format_ends(ends: Mapping[Place, int]) -> str:
    """Returns ledger ends as a tag: `0:120 3:99`, for the first 64 partitions in the given order.

    For partitions of other topics than the first, the index of the topic comes first: `1/0:7`.
    """
    shown = ((f"{at.topic}/{at.partition}" if at.topic else f"{at.partition}", end) for at, end in ends.items())
    return " ".join(f"{partition}:{end}" for partition, end in list(shown)[:_MOST_ENDS])


def parse_ends(tag: str) -> dict[Place, int]:
    """Reads the output of `format_ends`; ignores anything else."""
    found = (re.fullmatch(r"(?:(\d{1,9})/)?(\d{1,9}):(\d{1,18})", part, re.ASCII) for part in tag.split())
    return {Place(int(match[1] or 0), int(match[2])): int(match[3]) for match in found if match}


def _live_run(
    instance: dg.DagsterInstance, record: dg.RunRecord, now: datetime, serving_since: datetime
) -> LiveRun | None:
    run = record.dagster_run
    lane = _lane(run)
    if lane is None:
        return None
    is_launched = run.status in LAUNCHED
    return LiveRun(
        run.run_id,
        lane,
        _began_at(instance, record),
        is_queued=not is_launched,
        ends=parse_ends(read_ends(run)) if read_noted(run, PROCESS_TAG) else {},
        is_gone=is_lost(instance, run, now=now, serving_since=serving_since) if is_launched else is_orphan(record, now),
    )


def _began_at(instance: dg.DagsterInstance, record: dg.RunRecord) -> datetime:
    """Returns when a run started, or if it has not, when it was launched, or requested."""
    began_s = record.start_time
    if began_s is None and record.dagster_run.status not in _WAITING:
        began_s = instance.get_run_stats(record.dagster_run.run_id).launch_time
    return datetime.fromtimestamp(began_s, UTC) if began_s else as_utc(record.create_timestamp)


def _ending(run: dg.DagsterRun) -> Ending:
    """Returns how a failed run ended: as recorded, else by whether it had started to work."""
    try:
        return Ending(read_noted(run, ENDING_TAG))
    except ValueError:
        return Ending.DIED if read_noted(run, PROCESS_TAG) else Ending.FAILED


def _lane(run: dg.DagsterRun) -> Lane | None:
    """Returns the lane of a run; None if its configuration is invalid (such a run fails)."""
    try:
        return lane_of(run.run_config)
    except (ConfigurationError, ValueError):
        return None
