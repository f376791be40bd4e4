"""Finds runs whose process is gone although Dagster shows them as running, and kills processes of runs.

Dagster notices a killed run only while the code server that launched it is alive. After a power failure, or `kill -9`
of all processes, it waits for a timeout; until then the run occupies a slot of the queue, and its days wait. Therefore
each run records its process in a tag, which any process in the same process table can check. If no check is possible
(another machine or container, or a reboot since), the answer is "unknown".

This applies to Dagster's default launcher only. Under any other one, a process may be on another machine or execute
several runs one after another, so the launcher is asked instead.
"""

import json
import os
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from imgpipeline.defs.dagster_internals import DefaultRunLauncher, SyncInMemoryRunLauncher, WorkerStatus
from imgpipeline.defs.run_tags import PROCESS_TABLE_TAG, PROCESS_TAG, noted, read_noted

LAUNCHED = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
"""Statuses of runs that have left the queue and have not ended."""
_SUBMITTED_WITHIN = timedelta(minutes=2)
"""A running daemon submits a run within a second of creating it."""
_SILENT = timedelta(seconds=30)
"""Maximum time until a launched process reports its start, if its code server is gone."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def note_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Records that this process executes a run."""
    instance.add_run_tags(run_id, noted(run_id, PROCESS_TAG, describe_process()))


def mark_lost_builds(instance: dg.DagsterInstance, *, but: str, now: datetime, serving_since: datetime) -> list[str]:
    """Marks runs whose process is gone as failed, and returns their ids.

    Args:
        but: The job whose runs are not checked.
        now: The clock, UTC.
        serving_since: When this code server started, UTC.
    """
    marked = []
    for launched in instance.get_runs(dg.RunsFilter(statuses=list(LAUNCHED))):
        if launched.job_name == but or not is_lost(instance, launched, now=now, serving_since=serving_since):
            continue
        run = instance.get_run_by_id(launched.run_id)  # it may have ended normally in the meantime
        if run is not None and not run.is_finished:
            instance.report_run_failed(
                run, "Its process is gone. Builds write whole tables, so all written tables are correct."
            )
            marked.append(run.run_id)
    return marked


def is_lost(instance: dg.DagsterInstance, run: dg.DagsterRun, *, now: datetime, serving_since: datetime) -> bool:
    """Tells whether the process of a run that has not ended is known to be gone.

    A run records its process in its first step. Before that, an event of Dagster has the process id, which is valid
    only in the process table of the code server that launched the run. Launchers without processes of their own are
    asked for the worker's health; "unknown" is not lost.

    Args:
        run: A run that has left the queue.
        now: The clock, UTC.
        serving_since: When this code server started, UTC.
    """
    if not uses_processes(instance):
        launcher = instance.run_launcher
        if not launcher.supports_check_run_worker_health:
            return False
        return launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
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


def uses_processes(instance: dg.DagsterInstance) -> bool:
    """Tells whether each run has its own process, started by the code server (or is executed in memory, in tests)."""
    return isinstance(instance.run_launcher, DefaultRunLauncher | SyncInMemoryRunLauncher)


def is_orphan(record: dg.RunRecord, now: datetime) -> bool:
    """Tells whether a run was created but never submitted, because its daemon died in between."""
    is_new = record.dagster_run.status is dg.DagsterRunStatus.NOT_STARTED
    return is_new and now - as_utc(record.create_timestamp) > _SUBMITTED_WITHIN


def ended_at(record: dg.RunRecord) -> datetime:
    """Returns when a run ended, UTC."""
    return datetime.fromtimestamp(record.end_time, UTC) if record.end_time else as_utc(record.update_timestamp)


def as_utc(time: datetime) -> datetime:
    """Returns a time of a run record, which has no time zone in some storages, as UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _reported_pid(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """Returns the process id of Dagster's event `Started process for run`, or None if there is no such event yet."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.get_dagster_event()
        pid = event.engine_event_data.metadata.get("pid") if event.event_specific_data else None
        if pid is not None and str(pid.value).isdecimal():
            return int(str(pid.value))
    return None


def describe_process(pid: int | None = None) -> str:
    """Returns a text that identifies a process (default: this one) uniquely, even after its id is reused."""
    number = os.getpid() if pid is None else pid
    return json.dumps([*_process_table(), number, _started_at(number)])


def describe_table() -> str:
    """Returns a text that identifies this process table uniquely: machine, boot, and container."""
    return json.dumps(_process_table())


def is_running(pid: int) -> bool:
    """Tells whether this process table has a process with this id; True if that is unknown."""
    return bool(_started_at(pid)) or not _started_at(os.getpid())


def is_gone(note: str | None) -> bool:
    """Tells whether a process is known to be gone.

    Args:
        note: The text from `describe_process`, or None.

    Returns:
        True if it ran in this process table and has ended; False if it is running, or if that is unknown.
    """
    try:
        *table, pid, started_at = json.loads(note or "")
        number = int(pid)
    except (ValueError, TypeError):
        return False
    if table != _process_table() or not started_at or not _started_at(os.getpid()):
        return False
    return _started_at(number) != str(started_at)


def end_process(note: str | None) -> bool:
    """Kills a process with SIGKILL, if it is known to run in this process table.

    The process made no progress, so it may not react to anything else (it may even be stopped). Cancelling it through
    the code server would block that server until the process reacts.

    Returns:
        Whether the process was killed.
    """
    try:
        *table, pid, started_at = json.loads(note or "")
        if not started_at:  # recorded on a system without /proc
            return False
        handle = os.pidfd_open(int(pid))
    except (ValueError, TypeError, OSError):
        return False
    try:
        # The handle was opened before this check, so the checked process is the killed one, even if ids are reused.
        if table != _process_table() or _started_at(int(pid)) != str(started_at):
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(handle)


def _process_table() -> list[str]:
    """Returns the scope of process ids: machine, boot, and container."""
    try:
        namespace = str(_PID_NAMESPACE.readlink())
    except OSError:
        namespace = ""
    return [socket.gethostname(), _read(_BOOT_ID).strip(), namespace]


def _started_at(pid: int) -> str:
    """Returns the start of a process in ticks since boot; empty if there is no such process, or it is a zombie."""
    # The program name is in parentheses and may contain anything, so fields are counted after the last parenthesis.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return "" if len(fields) < 20 or fields[0] in "ZX" else fields[19]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


LAUNCHED_HERE = {PROCESS_TABLE_TAG: describe_table()}
"""Tags of a job whose runs this code server launches."""
