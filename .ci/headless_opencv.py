"""Make `import cv2` work on a machine without a screen's libraries: `python .ci/headless_opencv.py VENV`.

The wheel opencv-python needs libGL and libxcb from the system. Where they are missing, the wheel
opencv-python-headless of the same version takes its place: the same code without windows, which nothing here
opens. Does nothing where `import cv2` works, and says plainly what it did otherwise.
"""

import re
import subprocess
import sys
from pathlib import Path

FULL, HEADLESS = "opencv-python", "opencv-python-headless"
MISSING_LIBRARY = re.compile(r"([\w.+-]+\.so[.\d]*): cannot open shared object file")


class OpencvError(Exception):
    """`import cv2` fails and this script cannot help; the message says why."""


def make_cv2_importable(python: Path) -> None:
    """Put the headless wheel in the place of the other one where that misses a system library.

    Args:
        python: The interpreter of the virtual environment.

    Raises:
        OpencvError: `import cv2` fails for another reason, or still fails afterwards.
    """
    error = import_error(python)
    if not error:
        return
    missing = MISSING_LIBRARY.search(error)
    if missing is None:
        raise OpencvError(f"`import cv2` fails in {python}:\n{error}")
    version = installed_version(python)
    print(
        f"set-up: this machine has no {missing[1]}, which {FULL} needs. {HEADLESS} {version}, the same OpenCV "
        "without windows, takes its place.",
        flush=True,
    )
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "uninstall", "-qq", "--yes", FULL, HEADLESS], check=True)
    subprocess.run([*pip, "install", "--quiet", "--no-deps", f"{HEADLESS}=={version}"], check=True)
    error = import_error(python)
    if error:
        raise OpencvError(f"`import cv2` fails in {python} with {HEADLESS} too:\n{error}")


def import_error(python: Path) -> str:
    """Return what `import cv2` prints when it fails, and nothing when it works."""
    done = subprocess.run([python, "-c", "import cv2"], capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def installed_version(python: Path) -> str:
    """Return the version of the wheel that is there."""
    question = f"from importlib.metadata import version; print(version({FULL!r}))"
    return subprocess.run([python, "-c", question], capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """Check one virtual environment and return the exit status."""
    try:
        make_cv2_importable(Path(sys.argv[1]) / "bin" / "python")
    except (OpencvError, subprocess.CalledProcessError) as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
