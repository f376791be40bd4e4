"""Running one contender of the batch benchmarks as a process of its own, and what that process has cost."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.children import environment_of
from imgpipeline.settings import Settings

_REPOSITORY = Path(__file__).resolve().parents[1]
_SHOWN = 3000
_WATCH = """
import json, os, sys, time
began_s = time.perf_counter()
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    json.dump([time.perf_counter() - began_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], file)
sys.exit(min(255, abs(os.waitstatus_to_exitcode(status))))
"""
"""Starts the contender from a small process: a child's peak begins with what its parent holds as it forks."""
_KIB_A_MIB = 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What a contender has cost, with all processes that it started and waited for."""

    whole_s: float
    """From the start of its process to its end: what a user who types the command waits."""
    work_s: float | None
    """What it says of its work alone, interpreter and imports apart; None if it does not say it."""
    cpu_s: float
    """CPU seconds, user and system."""
    peak_mib: float
    """Greatest resident memory of one process."""
    told: Mapping[str, Any]
    """What else it says."""

    def to_json(self) -> dict[str, Any]:
        """Returns the figures."""
        return {"whole_s": self.whole_s, "work_s": self.work_s, "cpu_s": self.cpu_s, "peak_mib": self.peak_mib}


def run_command(
    command: Sequence[str | Path], settings: Settings, *, task: Mapping[str, Any] | None = None, limit_s: float = 300
) -> Cost:
    """Runs a command to its end.

    Args:
        command: What to run.
        settings: What it is told by its environment.
        task: A JSON document for its stdin.
        limit_s: After this it is killed.

    Raises:
        RuntimeError: It failed; the message has the end of what it said.
        TimeoutExpired: It took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        cost, said, errors = Path(folder, "cost"), Path(folder, "said"), Path(folder, "errors")
        watched = [sys.executable, "-I", "-S", "-c", _WATCH, str(cost), *map(str, command)]
        with said.open("wb") as stdout, errors.open("wb") as stderr:
            status = _run(watched, settings, json.dumps(dict(task or {})), stdout, stderr, limit_s)
        if status or not cost.exists():
            end = (said.read_bytes()[-_SHOWN:] + errors.read_bytes()[-_SHOWN:]).decode(errors="replace")
            raise RuntimeError(f"{[str(part) for part in command[:4]]} ended with {status}: {end}")
        whole_s, cpu_s, peak_kib = json.loads(cost.read_text(encoding="utf-8"))
        result = _result(said.read_bytes())
    return Cost(whole_s, result.get("work_s"), cpu_s, peak_kib / _KIB_A_MIB, result)


def _run(
    command: list[str], settings: Settings, task: str, stdout: IO[bytes], stderr: IO[bytes], limit_s: float
) -> int:
    """Runs a command in a session of its own, so that all of its processes end together; returns its exit status."""
    environment = environment_of(settings)
    with subprocess.Popen(  # noqa: S603 - commands of this package
        command,
        cwd=_REPOSITORY,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            child.communicate(task, timeout=limit_s)
        except BaseException:  # also Ctrl-C: the child has a session of its own, so it must be killed here
            os.killpg(child.pid, signal.SIGKILL)
            raise
    return child.returncode


def run_contender(kind: str, settings: Settings, task: Mapping[str, Any], *, limit_s: float = 300) -> Cost:
    """Runs one of `batch_contenders` to its end; see `run_command`."""
    command = [sys.executable, "-m", "benchmarks.batch_contenders", kind]
    return run_command(command, settings, task=task, limit_s=limit_s)


def _result(said: bytes) -> dict[str, Any]:
    for line in said.splitlines():
        if line.startswith(b'{"result"'):
            return dict(json.loads(line)["result"])
    return {}
