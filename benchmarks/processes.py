"""What a process has cost so far: CPU seconds and resident memory, as Linux counts them.

Source of the formats: proc(5), `/proc/PID/stat` and `/proc/PID/status`.
"""

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KIB_PER_MIB = 1024
_USER_TIME, _SYSTEM_TIME = 11, 12
"""Fields 14 and 15 of stat, counted behind the command's closing bracket (field 2)."""
_SESSION = 3


def cpu_s(pid: int) -> float:
    """Returns the CPU seconds of all threads of a process, user and system.

    Raises:
        FileNotFoundError: There is no such process.
    """
    fields = _stat(pid)
    return (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / _TICKS_PER_S


def session_cpu_s(session: int) -> float:
    """Returns the CPU seconds of the living processes of a session, such as a daemon with its code server."""
    total_s = 0.0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if int(_stat(int(folder.name))[_SESSION]) == session:
                    total_s += cpu_s(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
    return total_s


def rss_mib(pid: int | None = None) -> float:
    """Returns the resident memory of a process; None: of this one."""
    return _status_mib("VmRSS", pid)


def peak_rss_mib(pid: int | None = None) -> float:
    """Returns the greatest resident memory that a process ever had; None: this one."""
    return _status_mib("VmHWM", pid)


def _stat(pid: int) -> list[str]:
    # The command stands in brackets and may hold anything, also spaces and brackets.
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _status_mib(name: str, pid: int | None) -> float:
    text = Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="utf-8", errors="replace")
    line = next(line for line in text.splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) / _KIB_PER_MIB
