"""What a process has cost so far: CPU seconds and resident memory, as Linux counts them.

Source of the formats: proc(5), `/proc/PID/stat` and `/proc/PID/status`.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KIB_PER_MIB = 1024
_USER_TIME, _SYSTEM_TIME = 11, 12
"""Fields 14 and 15 of stat, counted behind the command's closing bracket (field 2)."""
_CHILDREN_TIME = slice(13, 15)
"""Fields 16 and 17: user and system time of children that have ended and were waited for."""
_SESSION = 3
_OTHER = "other"

Cost = dict[str, float]
"""CPU seconds by the name of what they were spent for."""


def cpu_s(pid: int) -> float:
    """Returns the CPU seconds of all threads of a process, user and system.

    Raises:
        FileNotFoundError: There is no such process.
    """
    return _spent_s(_stat(pid))


def session_costs(session: int, parts: Mapping[str, str]) -> Cost:
    """Returns the CPU seconds of a session by part, those of children that have ended included.

    Args:
        session: Its leader's process id.
        parts: A word of a process's command line, and what the processes with it are counted as.
    """
    costs = dict.fromkeys([*parts.values(), _OTHER], 0.0)
    for pid, stat in _session_stats(session):
        costs[_part(pid, parts)] += _spent_s(stat) + _children_s(stat)
    return costs


def session_processes(session: int, parts: Mapping[str, str]) -> dict[int, str]:
    """Returns the living processes of a session, each with its part; `parts` as above."""
    return {pid: _part(pid, parts) for pid, _ in _session_stats(session)}


def finished_children_cpu_s(pid: int) -> float:
    """Returns the CPU seconds of all children of a process that have ended and that it has waited for.

    Raises:
        FileNotFoundError: There is no such process.
    """
    return _children_s(_stat(pid))


def rss_mib(pid: int | None = None) -> float:
    """Returns the resident memory of a process; None: of this one."""
    return _status_mib("VmRSS", pid)


def peak_rss_mib(pid: int | None = None) -> float:
    """Returns the greatest resident memory that a process ever had; None: this one."""
    return _status_mib("VmHWM", pid)


def _session_stats(session: int) -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = _stat(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            if int(stat[_SESSION]) == session:
                yield int(folder.name), stat


def _part(pid: int, parts: Mapping[str, str]) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return _OTHER
    return next((part for word, part in parts.items() if word in command), _OTHER)


def _spent_s(stat: list[str]) -> float:
    return (int(stat[_USER_TIME]) + int(stat[_SYSTEM_TIME])) / _TICKS_PER_S


def _children_s(stat: list[str]) -> float:
    return sum(map(int, stat[_CHILDREN_TIME])) / _TICKS_PER_S


def _stat(pid: int) -> list[str]:
    # The command stands in brackets and may hold anything, also spaces and brackets.
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _status_mib(name: str, pid: int | None) -> float:
    text = Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="utf-8", errors="replace")
    line = next(line for line in text.splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) / _KIB_PER_MIB
