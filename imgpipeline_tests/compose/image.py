"""Runs the steps of the Dockerfile's first stage in a sandbox: what they install is what the image holds.

They need the package index, two minutes of a machine that does nothing else, and 2 GB of disk until the check ends.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DOCKERFILE = CHECKOUT / "deploy" / "docker" / "Dockerfile"
ENTRYPOINT_FILE = DOCKERFILE.with_name("entrypoint.sh")


def check_image() -> str:
    """Build the image, and run what it holds; return how many packages its list has.

    Raises:
        subprocess.CalledProcessError: A step failed, or the image does not work.
    """
    with tempfile.TemporaryDirectory() as folder:
        image = build_image(Path(folder))
        packages = {each["name"] for each in json.loads((image / "sbom.json").read_text())["components"]}
        assert "imgpipeline" in packages, packages
        assert not packages & {"hatchling", "pytest"}, packages
        for command in ("python -c 'import imgpipeline.definitions'", "imgpipeline site init site"):
            entered = f"PATH=/opt/imgpipeline/bin:$PATH {image_entrypoint()[0]} {command}"
            _run_inside(image.parent, entered, tempfile.gettempdir())
    return f"sbom.json lists {len(packages)} packages, the definitions load, and site init writes a folder"


def build_image(root: Path) -> Path:
    """Run the steps that copy and install; return the folder that is `/opt/imgpipeline` in the image.

    Of the system they see everything, but can write only to `/opt` and `/tmp`. The steps of the second stage, which
    install system packages and create the user, are left to Docker.

    Raises:
        subprocess.CalledProcessError: A step failed.
    """
    opt = root / "opt"
    (opt / "build").mkdir(parents=True)
    for name, words in first_stage():
        if name == "COPY":
            *sources, target = words.split()
            for source in sources:
                _copy(CHECKOUT / source, opt / "build" / target, into=len(sources) > 1)
        elif name == "RUN":
            _run_inside(opt, words, "/opt/build")
    shutil.copy(ENTRYPOINT_FILE, opt / "imgpipeline" / "entrypoint.sh")
    return opt / "imgpipeline"


def image_entrypoint() -> list[str]:
    """Return the entry point of the image."""
    found = re.search(r"^ENTRYPOINT (\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    assert found is not None
    return list(json.loads(found[1]))


def first_stage() -> Iterator[tuple[str, str]]:
    """Yield the instructions of the stage that builds: name and arguments."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    stage = text.split("\nFROM ")[1]
    for line in stage.splitlines()[1:]:
        found = re.match(r"(COPY|RUN) (.+)", line)
        if found:
            yield found[1], found[2]


def _run_inside(opt: Path, words: str, folder: str) -> None:
    """Run a shell command, with this machine's interpreter in the place of the base image's."""
    path = f"{sys.base_prefix}/bin:{os.environ['PATH']}"
    sandbox = ["bwrap", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    sandbox += ["--bind", str(opt), "/opt", "--tmpfs", tempfile.gettempdir()]
    sandbox += ["--chdir", folder, "--setenv", "PATH", path]
    subprocess.run([*sandbox, "sh", "-c", words], check=True)


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored)
    else:
        shutil.copy(source, target / source.name if into else target)
