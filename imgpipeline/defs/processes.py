"""Checks whether the process of a run is still there, and ends it.

After a crash of a whole machine, or `kill -9` of everything, Dagster still shows a run as started, because its launcher
does not check. A detection run therefore records its process in a tag, which any process with the same process table
can check. If no check is possible (another machine, another container, a reboot since), the answer is "unknown".
"""

import json
import os
import signal
import socket
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def describe_process(pid: int | None = None) -> str:
    """Returns a note that tells one process (this one by default) from all others, also after its id is used again."""
    number = os.getpid() if pid is None else pid
    return json.dumps([*_process_table(), number, _started_at(number)])


def describe_table() -> str:
    """Returns a note that tells this process table from all others: the machine, its boot, and the container."""
    return json.dumps(_process_table())


def is_running(pid: int) -> bool:
    """Tells whether this process table has a process of this id; True if that cannot be looked up."""
    return bool(_started_at(pid)) or not _started_at(os.getpid())


def is_gone(note: str | None) -> bool:
    """Tells whether a noted process is known to be gone.

    Args:
        note: What `describe_process` returned, or None.

    Returns:
        True if it ran in this process table and runs no more; False if it runs, or nothing can be said.
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
    """Kills a noted process, where it is known to run here.

    By SIGKILL: who is to be ended did not make progress, so it may not answer to anything else (it may even be
    stopped), and asking the code server to cancel it would block that server for as long as it does not answer.

    Returns:
        Whether it was killed.
    """
    try:
        *table, pid, started_at = json.loads(note or "")
        if not started_at:  # noted where there is no /proc
            return False
        handle = os.pidfd_open(int(pid))
    except (ValueError, TypeError, OSError):
        return False
    try:
        # The handle was opened before the look: what is looked at is what is killed, also when ids are used again.
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
    """Names what process ids refer to here: the machine, its boot, and the container."""
    try:
        namespace = str(_PID_NAMESPACE.readlink())
    except OSError:
        namespace = ""
    return [socket.gethostname(), _read(_BOOT_ID).strip(), namespace]


def _started_at(pid: int) -> str:
    """Returns when a process started, in ticks since boot; empty if there is no such process, or it is a zombie."""
    # The program's name is in brackets and may contain anything, so the fields are counted from its end.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return "" if len(fields) < 20 or fields[0] in "ZX" else fields[19]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
