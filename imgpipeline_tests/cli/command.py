"""Runs the command as users do: in a separate process, with its own environment and no `.env`."""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from typer.main import get_command

from imgpipeline.cli.app import app
from imgpipeline_tests.cli.warm_process import WarmProcess, can_run

REPOSITORY = Path(__file__).resolve().parents[2]
warm = WarmProcess()
"""Ended by the fixture `no_command_is_left`."""
_OWN = ("IMGPIPELINE_", "AWS_", "KAFKA_", "HETZNER_", "MQTT_", "S3_", "RTSP_")


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    status: int
    stdout: str
    """The data."""
    stderr: str
    """Notes, progress and errors."""
    took_s: float
    """From start to end."""

    def json(self) -> Any:
        """Return the one document on stdout."""
        return json.loads(self.stdout, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without any setting, and with the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200", **(given or {})}


def run(*arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path) -> Ended:
    """Run `imgpipeline` with these arguments, in a fork of a process with loaded modules if possible."""
    began = time.monotonic()
    if can_run(env or {}):
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            words = [str(argument) for argument in arguments]
            status = warm.run(words, env=environment(env), cwd=cwd, stdout=stdout, stderr=stderr)
            return Ended(status, _text(stdout), _text(stderr), time.monotonic() - began)
    return run_new(*arguments, env=env, cwd=cwd)


def run_new(*arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path) -> Ended:
    """Run `imgpipeline` with these arguments in a new interpreter, as users do."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "imgpipeline.cli", *arguments],
        env=environment(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Ended(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return io.TextIOWrapper(file).read()


def all_commands() -> list[tuple[tuple[str, ...], Any]]:
    """Return the words of every command and every group, with the command as Click has it."""
    return list(_commands_of(get_command(app), ()))


def _commands_of(command: Any, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, lazy in getattr(command, "commands", {}).items():
        loaded = lazy.make_context(name, [], resilient_parsing=True).command
        yield (*above, name), loaded
        yield from _commands_of(loaded, (*above, name))


def interrupt(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path, when: Callable[[], object]
) -> Ended:
    """Run `imgpipeline` and press Ctrl-C as soon as `when` returns.

    A shell starts background jobs with SIGINT ignored, and children inherit that: the command gets the default back.
    """
    command = ["env", "--default-signal=INT", sys.executable, "-m", "imgpipeline.cli", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    began = time.monotonic()
    with subprocess.Popen(command, env=environment(env), cwd=cwd, **pipes) as process:
        try:
            when()
        finally:
            process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    return Ended(process.returncode, stdout, stderr, time.monotonic() - began)
