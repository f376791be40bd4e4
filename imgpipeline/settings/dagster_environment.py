"""Lets the environment take precedence over `.env` in Dagster's processes.

Every `dagster` command copies the `.env` of its working folder over its environment, and passes the result to the
processes that it starts. What the user had set remains visible in `/proc` only.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from imgpipeline.settings.variables import PREFIX

_COMMANDS: Final = {"dagster", "dagster-daemon", "dagster-webserver", "dagster_webserver", "dg"}
"""Dagster's programs, and the module after `python -m`."""


def undo_env_file(file: Mapping[str, str | None]) -> None:
    """Gives the variables of `.env`, which Dagster has copied, the values that the user had set.

    Removes our own variables that the user had not set, so that settings follow a changed file. Does nothing outside
    Dagster, and on systems without `/proc`.
    """
    if not file or (given := _given_to_dagster()) is None:
        return
    for name in [name for name, value in file.items() if value is not None and os.environ.get(name) == value]:
        if set_by_user := given.get(name.upper()):
            os.environ[name] = set_by_user
        elif name.upper().startswith(PREFIX):
            os.environ.pop(name, None)  # sensors load their settings in several threads


def _given_to_dagster() -> dict[str, str] | None:
    """Returns what the outermost Dagster command of this folder was started with, names in capitals; None outside."""
    given, process = None, Path("/proc/self")
    with contextlib.suppress(OSError):  # there is no /proc/0, and other users' processes cannot be read
        while True:
            command = os.fsdecode((process / "cmdline").read_bytes()).split("\0")
            if _COMMANDS & {Path(word).name for word in command[:4]} and (process / "cwd").samefile("."):
                variables = os.fsdecode((process / "environ").read_bytes()).split("\0")
                given = {name.upper(): value for name, _, value in (each.partition("=") for each in variables)}
            parent = re.search(r"^PPid:\s*(\d+)", (process / "status").read_text(), re.MULTILINE)
            process = Path("/proc", parent[1] if parent else "0")
    return given
