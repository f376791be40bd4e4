"""Pin the versions of everything that a full development environment holds: `make constraints`.

Promises a `constraints.txt` of plain `name==version` lines, resolved in a new virtual environment from the
dependencies in `pyproject.toml` and their extras, so that nothing of an older environment gets into it. What the
project needs, and in which ranges, stands in `pyproject.toml` alone.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TARGET = REPOSITORY / "constraints.txt"
EXTRAS = ("dev", "deploy", "openvino", "sinks", "celery", "kubernetes")
HEADER = """\
# Every version that the tests ran with, for Python 3.11 and newer. Made by `make constraints`.
# Use: pip install -c constraints.txt -e '.[dev]'
"""
TOOLS = ("setuptools",)
"""Needed by Dagster's commands; a new virtual environment of Python 3.11 would answer for it with an old one."""
REPLACEMENTS = {"opencv-python": "opencv-python-headless", "onnxruntime": "onnxruntime-gpu"}
"""Packages that take the place of another one, in the same version: on a machine without libGL (see setup_venv.py), and
on a machine with a GPU."""


def main() -> int:
    """Resolve, pin and write; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"constraints: resolving {', '.join(EXTRAS)} in a new virtual environment", flush=True)
        venv.create(folder, with_pip=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run(
            [*pip, "install", "--quiet", "--upgrade", *TOOLS, *requirements()], check=True, stdin=subprocess.DEVNULL
        )
        frozen = subprocess.run(
            [*pip, "freeze", "--all", "--exclude", "pip", "--exclude", "wheel"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    pins = pinned(frozen)
    TARGET.write_text(HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
    print(f"constraints: {len(pins)} versions pinned in {TARGET.name}")
    return 0


def requirements() -> list[str]:
    """Return what `pyproject.toml` asks for with all extras, without the project itself."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"]]
    for extra in EXTRAS:
        asked += project["optional-dependencies"][extra]
    return [requirement for requirement in asked if not requirement.startswith(f"{project['name']}[")]


def pinned(frozen: str) -> dict[str, str]:
    """Return the version of each package of a `pip freeze`.

    Raises:
        ValueError: A line is no plain version, such as a path or a URL.
    """
    pins = {}
    for line in frozen.splitlines():
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s@]+)", line)
        if match is None:
            raise ValueError(f"not a plain version: {line!r}")
        pins[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return pins | {other: pins[name] for name, other in REPLACEMENTS.items() if name in pins}


if __name__ == "__main__":
    sys.exit(main())
