"""Runs the steps of the Dockerfile's first stage in a sandbox: what they install is what the image holds."""

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
            # The interpreter of this machine stands in for that of the base image.
            path = f"{sys.base_prefix}/bin:{os.environ['PATH']}"
            sandbox = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--bind", str(opt), "/opt"]
            sandbox += ["--tmpfs", tempfile.gettempdir(), "--chdir", "/opt/build", "--setenv", "PATH", path]
            subprocess.run([*sandbox, "sh", "-c", words], check=True)
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


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored)
    else:
        shutil.copy(source, target / source.name if into else target)
