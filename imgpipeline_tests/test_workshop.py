"""The workshop (Makefile and .ci) on machines that lack something: it helps itself or names what to install."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
CI = REPOSITORY / ".ci"


def run(*command: str | Path, cwd: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        command, cwd=cwd, env={**surroundings, **environment}, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def bare_checkout(tmp_path: Path) -> Path:
    """A checkout without `.venv`, with nothing but what the set-up reads."""
    shutil.copytree(CI, tmp_path / ".ci", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


def test_make_alone_lists_what_it_can_do():
    listed = run("make")
    assert listed.returncode == 0
    wanted = "help demo quick test test-faults site-test soak scale-test fuzz check servers bench"
    assert re.findall(r"^  make ([\w-]+)", listed.stdout, re.MULTILINE)[:12] == wanted.split()


def test_a_python_that_is_too_old_is_named_with_what_to_do(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 || exit 1\n')
    old.chmod(0o755)
    refused = run("make", f"PYTHON={old}", "demo")
    assert refused.returncode != 0
    assert "Python 3.11 or newer is needed" in refused.stderr
    assert "Python 3.9.2" in refused.stderr
    assert "apt install python3" in refused.stderr


def test_a_python_without_ensurepip_is_told_which_package_brings_it(bare_checkout):
    script = (
        "import runpy, sys; sys.modules['ensurepip'] = None; runpy.run_path('.ci/setup_venv.py', run_name='__main__')"
    )
    refused = run(sys.executable, "-c", script, cwd=bare_checkout, PYTHONPATH=str(bare_checkout / ".ci"))
    assert refused.returncode == 1
    assert "no ensurepip" in refused.stderr
    assert "apt install python3-venv" in refused.stderr
    assert not (bare_checkout / ".venv").exists()


def test_a_damaged_venv_is_not_touched_but_named(bare_checkout):
    (bare_checkout / ".venv" / "bin").mkdir(parents=True)
    refused = run(sys.executable, bare_checkout / ".ci" / "setup_venv.py", cwd=bare_checkout)
    assert refused.returncode == 1
    assert "rm -r .venv" in refused.stderr


def test_a_stamp_of_the_same_requirements_makes_the_set_up_a_no_op(bare_checkout):
    project = tomllib.loads((bare_checkout / "pyproject.toml").read_text())["project"]
    question = f"import setup_venv; print(setup_venv.fingerprint({project!r}))"
    stamp = run(sys.executable, "-c", question, PYTHONPATH=str(bare_checkout / ".ci")).stdout.strip()
    (bare_checkout / ".venv").mkdir()
    (bare_checkout / ".venv" / f".stamp-{stamp}").touch()
    assert run("make", "venv", f"PYTHON={sys.executable}", cwd=bare_checkout).returncode == 0
    with (bare_checkout / "constraints.txt").open("a") as constraints:
        constraints.write("another==1\n")
    assert run("make", "venv", f"PYTHON={sys.executable}", cwd=bare_checkout).returncode != 0


LACKS_LIBRARY = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')\n"


@pytest.fixture
def opencv_wheels(tmp_path: Path) -> Path:
    """A folder of wheels: an opencv-python that misses libGL, and a headless one of the same version that works."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "opencv_python", "5.0.0.93", LACKS_LIBRARY)
    make_wheel(folder, "opencv_python_headless", "5.0.0.93", "")
    make_wheel(folder, "opencv_python_headless", "5.1.0.1", "raise ImportError('of another version')\n")
    return folder


@pytest.mark.slow
def test_on_a_machine_without_libgl_the_headless_opencv_of_the_same_version_takes_over(tmp_path, opencv_wheels):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(opencv_wheels)}
    run(python, "-m", "pip", "install", "opencv-python", **offline)
    assert run(python, "-c", "import cv2").returncode != 0

    helped = run(sys.executable, CI / "headless_opencv.py", tmp_path / "venv", **offline)

    assert helped.returncode == 0, helped.stderr
    assert "no libGL.so.1" in helped.stdout
    assert "opencv-python-headless 5.0.0.93" in helped.stdout
    assert run(python, "-c", "import cv2").returncode == 0
    assert "opencv-python-headless==5.0.0.93" in run(python, "-m", "pip", "freeze").stdout
    again = run(sys.executable, CI / "headless_opencv.py", tmp_path / "venv", **offline)
    assert (again.returncode, again.stdout) == (0, "")


def test_another_failure_of_opencv_is_shown_and_nothing_replaced(tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 'ImportError: numpy is too old' >&2\nexit 1\n")
    python.chmod(0o755)
    refused = run(sys.executable, CI / "headless_opencv.py", tmp_path)
    assert refused.returncode == 1
    assert "numpy is too old" in refused.stderr


def test_every_direct_requirement_has_a_pinned_version():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in asked} - {project["name"]}
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==(\d+!)?[\w.]+", pin)] == []
    assert names - {pin.split("==")[0] for pin in pins} == set()


def test_without_tools_and_without_apt_the_line_to_run_is_named(tmp_path):
    tools = ("java", "openssl", "mosquitto", "mosquitto_pub", "chromium", "nginx", "redis-server", "curl", "bwrap")
    for tool in tools:
        (tmp_path / tool).symlink_to("/bin/true")
    refused = run(sys.executable, CI / "servers.py", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert refused.returncode == 1
    assert "missing: prometheus, maven" in refused.stderr
    assert re.search(r"apt-get install .*\bmaven\b", refused.stderr)


def make_wheel(folder: Path, name: str, version: str, source: str) -> None:
    information = f"{name}-{version}.dist-info"
    files = {
        "cv2/__init__.py": source,
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{information}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{information}/RECORD": record}.items():
            wheel.writestr(path, text)
