"""Set up `.venv`: everything that runs, tests and checks the project, in the versions of `constraints.txt`.

Promises to cost nothing when nothing has changed (a stamp file holds the hash of what was asked for), to take an
environment that is complete already as it is, and to name the package to install where Python lacks a part. The
standard library only: it runs before anything else. Which packages, stands in `pyproject.toml` alone.
"""

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from headless_opencv import FULL, HEADLESS, OpencvError, make_cv2_importable

REPOSITORY = Path(__file__).resolve().parents[1]
VENV = REPOSITORY / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = REPOSITORY / "constraints.txt"
EXTRAS = ("dev", "deploy", "openvino", "sinks", "celery", "kubernetes")

_INSTALLED = """
import importlib.metadata as m, json
print(json.dumps({d.metadata["Name"].lower(): d.version for d in m.distributions()}))
"""


class SetupError(Exception):
    """The environment cannot be made; the message says what the reader can do."""


def main() -> int:
    """Bring `.venv` up to date and return the exit status."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    stamp = VENV / f".stamp-{fingerprint(project)}"
    if stamp.exists():
        return 0
    try:
        make_venv()
        if not is_complete(project):
            install()
        make_cv2_importable(PYTHON)
    except (SetupError, OpencvError, subprocess.CalledProcessError) as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    for old in VENV.glob(".stamp-*"):
        old.unlink()
    stamp.touch()
    return 0


def fingerprint(project: dict[str, object]) -> str:
    """Return a hash of all that decides what is installed; the settings of tools do not."""
    asked = [
        project.get(key) for key in ("version", "dependencies", "optional-dependencies", "scripts", "entry-points")
    ]
    text = json.dumps([asked, EXTRAS]) + CONSTRAINTS.read_text()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_venv() -> None:
    """Make the virtual environment where there is none.

    Raises:
        SetupError: This Python lacks the parts for it, or the one that is there does not run.
    """
    if not VENV.exists():
        lacking = [part for part in ("venv", "ensurepip") if importlib.util.find_spec(part) is None]
        if lacking:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise SetupError(
                f"this Python has no {' and no '.join(lacking)}. "
                f"On Debian or Ubuntu, as root: apt install python3-venv (or python{version}-venv)"
            )
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    check = [str(PYTHON), "-c", "import sys, pip; sys.exit(sys.version_info < (3, 11))"]
    try:
        subprocess.run(check, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(".venv is damaged or of a Python older than 3.11. Remove it: rm -r .venv") from error


def is_complete(project: dict[str, dict[str, list[str]]]) -> bool:
    """Tell whether the environment has all packages that are asked for, in their pinned versions."""
    asked = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    names = {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in asked}
    pins = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE))
    answer = subprocess.run([PYTHON, "-c", _INSTALLED], check=True, capture_output=True, text=True).stdout
    installed = {re.sub(r"[-_.]+", "-", name): version for name, version in json.loads(answer).items()}
    installed.setdefault(FULL, installed.get(HEADLESS))
    have_scripts = all((VENV / "bin" / script).exists() for script in project["scripts"])
    pins[str(project["name"])] = str(project["version"])
    return have_scripts and all(installed.get(name) == pins.get(name) for name in names | {str(project["name"])})


def install() -> None:
    """Install the project, editable, with what it needs.

    Raises:
        SetupError: pip failed; its own words stand above.
    """
    started_s = time.monotonic()
    print("set-up: installing into .venv (the first time about 1 GB, some minutes)", flush=True)
    target = f"{REPOSITORY}[{','.join(EXTRAS)}]"
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command = [*pip, "--constraint", str(CONSTRAINTS), "--editable", target]
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode != 0:
        raise SetupError("pip could not install what pyproject.toml asks for: see its words above")
    print(f"set-up: installed in {time.monotonic() - started_s:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
