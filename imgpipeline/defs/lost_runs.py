"""Finds runs whose process is gone although Dagster shows them as running.

Dagster notices a killed run only while the code server that launched it lives. After a power cut, or `kill -9` of
everything, it waits for a timeout; until then the run keeps a slot of the queue, and its days wait.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from imgpipeline.defs.processes import describe_process, describe_table, is_gone, is_running
from imgpipeline.defs.run_tags import PROCESS_TABLE_TAG, PROCESS_TAG, noted, read_noted

LAUNCHED = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
"""Statuses of a run that has left the queue and has not ended."""
_SILENT = timedelta(seconds=30)
"""How long a launched process may take to report its start, where the code server that launched it is gone."""


def note_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Notes that this process executes a run."""
    instance.add_run_tags(run_id, noted(run_id, PROCESS_TAG, describe_process()))


def mark_lost_builds(instance: dg.DagsterInstance, *, but: str, now: datetime, serving_since: datetime) -> list[str]:
    """Marks runs as failed whose process is gone, and returns their ids.

    Args:
        instance: Dagster's storage.
        but: The job whose runs are left alone.
        now: The clock, UTC.
        serving_since: When this code server started, UTC.
    """
    marked = []
    for launched in instance.get_runs(dg.RunsFilter(statuses=list(LAUNCHED))):
        if launched.job_name == but or not is_lost(instance, launched, now=now, serving_since=serving_since):
            continue
        run = instance.get_run_by_id(launched.run_id)  # again: it may have ended in order since it was listed
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, "Its process is gone. A build puts whole tables: what it put is right.")
            marked.append(run.run_id)
    return marked


def is_lost(instance: dg.DagsterInstance, run: dg.DagsterRun, *, now: datetime, serving_since: datetime) -> bool:
    """Tells whether the process of a run that has not ended is known to be gone.

    A run notes its process with its first step. Before that, Dagster's own event names the process id, which means
    something only in the process table of the code server that launched it.

    Args:
        instance: Dagster's storage.
        run: A run that has left the queue.
        now: The clock, UTC.
        serving_since: When this code server started, UTC.
    """
    note = read_noted(run, PROCESS_TAG)
    if note is not None:
        return is_gone(note)
    if run.tags.get(PROCESS_TABLE_TAG) != describe_table():
        return False
    pid = _reported_pid(instance, run.run_id)
    if pid is not None:
        return not is_running(pid)
    launched_s = instance.get_run_stats(run.run_id).launch_time
    launched_at = datetime.fromtimestamp(launched_s, UTC) if launched_s else now
    return launched_at < serving_since and now - launched_at > _SILENT


def _reported_pid(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """Returns the process id of Dagster's event `Started process for run`, or None while there is none."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.get_dagster_event()
        pid = event.engine_event_data.metadata.get("pid") if event.event_specific_data else None
        if pid is not None and str(pid.value).isdecimal():
            return int(str(pid.value))
    return None
