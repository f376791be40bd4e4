"""Runs what is measured in separate processes, and returns their results and costs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.place import REPOSITORY
from imgpipeline.settings import Settings
from imgpipeline.settings.variables import variables

_PREFIX = "IMGPIPELINE_"
_SHOWN = 3000
_LIMIT_S = 3600.0
_KIB_PER_MIB = 1024
_WATCH = """
import json, os, sys, time
began_s = time.perf_counter()
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    json.dump([time.perf_counter() - began_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], file)
sys.exit(min(255, abs(os.waitstatus_to_exitcode(status))))
"""
"""Starts the command from a small process: a child's peak begins with what its parent holds as it forks."""


@dataclass(frozen=True, slots=True)
class Child:
    """Result and cost of a process, with all processes that it started and waited for."""

    result: Mapping[str, Any]
    """Its last line `{"result": …}`; empty without one."""
    whole_s: float
    """From its start to its end: what a user who types the command waits."""
    cpu_s: float
    """CPU seconds, user and system."""
    peak_mib: float
    """Greatest resident memory of one process."""


def run_contender(
    kind: str,
    settings: Settings,
    task: Mapping[str, Any] | None = None,
    *,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    checkout: Path = REPOSITORY,
) -> Mapping[str, Any]:
    """Runs one of `benchmarks.contender` to its end and returns its result.

    Args:
        kind: Which one.
        settings: Its environment.
        task: A JSON document for its stdin.
        on_progress: Called with every line before its result.
        checkout: The pipeline's code that it runs; an older one without a `.venv` runs with this one's packages.

    Raises:
        RuntimeError: It failed; the message has the end of its output.
    """
    own = checkout / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    command = [python, "-P", str(REPOSITORY / "benchmarks" / "contender.py"), kind]
    return run_command(command, settings, task=task, on_progress=on_progress, checkout=checkout).result


def run_command(
    command: Sequence[str | Path],
    settings: Settings,
    *,
    task: Mapping[str, Any] | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    checkout: Path = REPOSITORY,
    limit_s: float = _LIMIT_S,
) -> Child:
    """Runs a command to its end, in a session that ends with it; the arguments are those of `run_contender`.

    Raises:
        RuntimeError: It failed or took longer than `limit_s`; the message has the end of its output.
    """
    result: Mapping[str, Any] = {}
    others: deque[str] = deque(maxlen=50)
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile("w+", errors="replace") as errors:
        cost = Path(name, "cost")
        watched = [sys.executable, "-I", "-S", "-c", _WATCH, str(cost), *map(str, command)]
        environment = {**environment_of(settings), "PYTHONPATH": str(checkout)}
        with subprocess.Popen(  # noqa: S603 - commands of this package
            watched, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            text=True, start_new_session=True,
        ) as child:  # fmt: skip
            stopped = threading.Timer(limit_s, os.killpg, (child.pid, signal.SIGKILL))
            stopped.start()
            try:
                for said in _talk(child, task, others):
                    result = said.get("result", result)
                    if on_progress and "result" not in said:
                        on_progress(said)
                child.wait()
            except BaseException:  # also Ctrl-C, which does not reach the child's own session
                os.killpg(child.pid, signal.SIGKILL)
                raise
            finally:
                stopped.cancel()
        if child.returncode:
            errors.seek(0)
            end = ("".join(others) + errors.read())[-_SHOWN:]
            raise RuntimeError(f"{[str(part) for part in command[:4]]} ended with {child.returncode}: {end}")
        whole_s, cpu_s, peak_kib = json.loads(cost.read_text(encoding="utf-8"))
    return Child(result, whole_s, cpu_s, peak_kib / _KIB_PER_MIB)


def _talk(child: "subprocess.Popen[str]", task: Mapping[str, Any] | None, others: deque[str]) -> Any:
    """Sends the task and yields the lines of JSON; collects the other lines."""
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the child has no pipes")
    with contextlib.suppress(BrokenPipeError):  # it does not read its stdin
        json.dump(dict(task or {}), child.stdin)
        child.stdin.close()
    for line in child.stdout:
        if line.startswith("{"):
            yield json.loads(line)
        else:
            others.append(line)


def environment_of(settings: Settings) -> dict[str, str]:
    """Returns the environment by which another process has the same settings, and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith((_PREFIX, "AWS_", "KAFKA_"))}
    return {**inherited, **variables_of(settings)}


def variables_of(settings: Settings) -> dict[str, str]:
    """Returns the settings that were chosen, by their names in the environment."""
    fields = Settings.model_fields
    values = {variables(name, fields[name])[0]: getattr(settings, name) for name in settings.model_fields_set}
    return {name: _text(value) for name, value in values.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(value) if isinstance(value, tuple) else str(value)
