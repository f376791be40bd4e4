"""Checks a machine and the folder of a site before anything starts."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3
LEAST_MEMORY, LEAST_DISK = 7 * GIB, 20 * GIB
"""What the processes of a small site may take together, and a day of images with Kafka's log."""
MAY_BE_EMPTY = {"alert_targets", "sinks"}
"""Secrets of parts that a site may not have."""
CONTAINER_MARK = Path("/.dockerenv")
"""Docker makes it in each container."""
LEAST_COMPOSE = (2, 24)
"""The first version that knows optional dependencies and `start_interval`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a site from starting."""

    message: str
    next_step: str
    is_certain: bool = True
    """False: the check sees nothing from where it runs."""


def check_site(folder: Path) -> Iterator[tuple[str, Problem | None]]:
    """Yields the name of each check, with its problem."""
    settings = read_environment(folder / ".env")
    yield "settings", _check_settings(settings)
    yield "secrets", _check_secrets(folder)
    yield "docker compose", _check_compose()
    yield "memory", _check_memory()
    yield "disk", _check_disk(folder)
    yield "ports", _check_ports(settings)
    yield "names", _check_names(settings)
    yield "clock", _check_clock()


def read_environment(path: Path) -> Mapping[str, str]:
    """Returns the variables of a `.env`; empty if there is none."""
    if not path.exists():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _check_settings(settings: Mapping[str, str]) -> Problem | None:
    needed = ("SITE_IMAGE", "COMPOSE_PROFILES", "SITE_DOMAIN", "STORE_URL", "FIRST_DAY")
    missing = [name for name in needed if not settings.get(name)]
    return Problem(f".env lacks {', '.join(missing)}", "imgpipeline site init FOLDER") if missing else None


def _check_secrets(folder: Path) -> Problem | None:
    """Each secret of the compose file has to be there, and nobody else may enter their folder.

    Containers see a single file of the folder as another user, so the files themselves have to be readable.
    """
    compose = folder / "compose.yaml"
    names = re.findall(r"file: (secrets/[\w.]+)", compose.read_text()) if compose.exists() else []
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        return Problem(f"missing: {', '.join(missing) or 'compose.yaml'}", "imgpipeline site init FOLDER makes them")
    names += [str(each.relative_to(folder)) for each in sorted(folder.glob("secrets/cameras/*"))]
    closed = [name for name in names if not (folder / name).stat().st_mode & 0o004]
    if closed:
        return Problem(f"containers cannot read {', '.join(closed)}", f"chmod 644 {closed[0]}")
    empty = [name for name in names if Path(name).name not in MAY_BE_EMPTY and not (folder / name).read_text().strip()]
    if empty:
        step = "write it again, or delete it and run imgpipeline site init FOLDER (docs/deploy.md, Change a password)"
        return Problem(f"empty: {', '.join(empty)}", step)
    if (folder / "secrets").stat().st_mode & 0o077:
        return Problem("other users of this machine can read the secrets", "chmod 700 secrets")
    return None


def _check_compose() -> Problem | None:
    wanted = ".".join(map(str, LEAST_COMPOSE))
    said = _output(["docker", "compose", "version", "--short"])
    if said is None and CONTAINER_MARK.exists():
        step = f"`docker compose version` has to say {wanted} or later"
        return Problem("not visible from a container", step, is_certain=False)
    if said is None:
        return Problem("it does not run", f"install Docker Engine 25 or later with compose {wanted} or later")
    version = tuple(int(part) for part in said.lstrip("v").split(".")[:2] if part.isdigit())
    return Problem(f"version {said}", f"install {wanted} or later") if version < LEAST_COMPOSE else None


def _check_memory() -> Problem | None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = int(next(line for line in lines if line.startswith("MemTotal")).split()[1]) * 1024
    if total >= LEAST_MEMORY:
        return None
    return Problem(f"{total / GIB:.1f} GiB", f"{LEAST_MEMORY // GIB} GiB are the least: take a larger machine")


def _check_disk(folder: Path) -> Problem | None:
    free = shutil.disk_usage(folder).free
    if free >= LEAST_DISK:
        return None
    return Problem(f"{free / GIB:.1f} GiB are free", f"{LEAST_DISK // GIB} GiB are the least: free some, or add a disk")


def _check_ports(settings: Mapping[str, str]) -> Problem | None:
    if "proxy" not in settings.get("COMPOSE_PROFILES", ""):
        return None
    for name, usual in (("HTTP_PORT", 80), ("HTTPS_PORT", 443)):
        port = int(settings.get(name, usual))
        with socket.socket() as tried:
            # To listen there, as Docker does, would need root.
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                step = f"end the program that listens there (the site itself does once it runs), or set {name} in .env"
                return Problem(f"port {port} is in use", step)
    return None


def _check_names(settings: Mapping[str, str]) -> Problem | None:
    domain = settings.get("SITE_DOMAIN", "")
    profiles = settings.get("COMPOSE_PROFILES", "").split(",")
    for name in (domain, f"dagster.{domain}", *([f"grafana.{domain}"] if "grafana" in profiles else [])):
        try:
            socket.getaddrinfo(name, 443)
        except OSError:
            return Problem(f"{name} has no address", "add it to DNS, or to /etc/hosts for a trial")
    return None


def _check_clock() -> Problem | None:
    """Frames are counted by the time that sources give them, so a wrong clock puts them into wrong hours."""
    said = _output(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    if said is None and CONTAINER_MARK.exists():
        step = "`timedatectl` has to say that the clock is synchronized"
        return Problem("not visible from a container", step, is_certain=False)
    return Problem("it is not synchronized", "timedatectl set-ntp true") if said == "no" else None


def _output(command: list[str]) -> str | None:
    """Returns what a program prints; None if it fails or is not installed."""
    try:
        done = subprocess.run(  # noqa: S603 - the commands of this module
            command, check=True, capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
