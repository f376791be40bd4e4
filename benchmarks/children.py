"""Starting what is measured in processes of their own, and hearing what they say."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from imgpipeline.settings import Settings
from imgpipeline.settings.variables import variables

REPOSITORY = Path(__file__).resolve().parents[1]
"""This checkout."""
_PREFIX = "IMGPIPELINE_"
_SHOWN_STDERR = 3000

Kind = Literal["lane", "bare", "classic", "alerts", "watch"]


def run_contender(
    kind: Kind,
    settings: Settings,
    task: Mapping[str, Any] | None = None,
    *,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    checkout: Path = REPOSITORY,
) -> dict[str, Any]:
    """Runs one contender to its end.

    Args:
        kind: Which one, see `contender`; `watch` is `watch_frames`.
        settings: What it is told by its environment.
        task: What it is told beside.
        on_progress: Called with every line that it says before its result.
        checkout: The code that it runs; an older one without a `.venv` runs with this one's packages.

    Returns:
        Its result.

    Raises:
        RuntimeError: It failed; the message has the end of what it said to stderr.
    """
    result: dict[str, Any] | None = None
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(  # noqa: S603 - this very package
            _command(kind, checkout),
            cwd=checkout,
            env={**environment_of(settings), "PYTHONPATH": str(checkout)},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as child,
    ):
        try:
            if child.stdin is None or child.stdout is None:
                raise RuntimeError("the child has no pipes")
            json.dump(dict(task or {}), child.stdin)
            child.stdin.close()
            for line in child.stdout:
                said = json.loads(line)
                result = said.get("result", result)
                if on_progress and "result" not in said:
                    on_progress(said)
            child.wait()
        finally:
            child.kill()
        if child.returncode or result is None:
            errors.seek(0)
            raise RuntimeError(f"{kind} ended with {child.returncode}: {errors.read()[-_SHOWN_STDERR:]}")
    return result


def _command(kind: Kind, checkout: Path) -> list[str]:
    own = checkout / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    if kind == "watch":  # older checkouts do not have it
        return [python, "-P", str(REPOSITORY / "benchmarks" / "watch_frames.py")]
    return [python, "-m", "benchmarks.contender", kind]


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
