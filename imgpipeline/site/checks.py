"""Checks a machine and the folder of a site before anything starts."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgpipeline.errors import ConfigurationError
from imgpipeline.site.environment import read_environment, read_site
from imgpipeline.vision.registry import registered_model

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
    """Yields the name of each check, with its problem; the last ones need valid settings."""
    wrong = None
    try:
        settings = read_site(folder)
    except ConfigurationError as error:
        wrong = Problem(error.message.rstrip("."), error.next_step or "correct it")
    except OSError as error:  # then the other checks could not read the folder either
        step = "run this as the owner of the folder and of secrets/"
        yield "settings", Problem(f"{error.filename} cannot be read: {error.strerror}", step)
        return
    yield "settings", wrong
    yield "secrets", _check_secrets(folder)
    yield "docker compose", _check_compose()
    yield "disk", _check_disk(folder)
    yield "clock", _check_clock()
    if wrong is None:
        values = read_environment(folder / ".env")
        yield "model", _check_model(settings.model)
        yield "memory", _check_memory()
        yield "ports", _check_ports(values)
        yield "store keys", _check_store_keys(values)
        yield "names", _check_names(values)


def _check_model(name: str) -> Problem | None:
    try:
        registered_model(name)
    except ConfigurationError:  # it may be their own, in a volume that is not visible
        step = "correct MODEL in .env, unless `docker compose run --rm tools imgpipeline models list` has it"
        return Problem(f"{name} is not a model of this version", step, is_certain=False)
    return None


def _check_secrets(folder: Path) -> Problem | None:
    """Each secret of the compose file has to be there, and nobody else may enter their folder.

    Containers see a single file of the folder as another user, so the files themselves have to be readable.
    """
    compose = folder / "compose.yaml"
    names = re.findall(r"file: (secrets/[\w.]+)", compose.read_text()) if compose.exists() else []
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        return Problem(f"missing: {', '.join(missing) or 'compose.yaml'}", "imgpipeline site init FOLDER makes them")
    names += [str(each.relative_to(folder)) for each in sorted(folder.glob("secrets/cameras/*")) if each.is_file()]
    closed = [name for name in names if not (folder / name).stat().st_mode & 0o004]
    if (folder / "secrets" / "cameras").stat().st_mode & 0o005 != 0o005:
        return Problem("containers cannot read secrets/cameras", "chmod 755 secrets/cameras")
    if closed:
        return Problem(f"containers cannot read {', '.join(closed)}", f"chmod 644 {closed[0]}")
    empty = [name for name in names if Path(name).name not in MAY_BE_EMPTY and not (folder / name).read_text().strip()]
    if empty:
        step = "write it again; docs/deploy.md, Change a password, names those that site init makes again"
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
    step = f"{LEAST_DISK // GIB} GiB below /var/lib/docker are the least: free some, or add a disk"
    return Problem(f"{free / GIB:.1f} GiB are free on the disk of {folder.resolve()}", step)


def _check_ports(values: Mapping[str, str]) -> Problem | None:
    used = _ports_in_use()
    for profile, name, usual in (
        ("proxy", "HTTP_PORT", "80"), ("proxy", "HTTPS_PORT", "443"), ("mosquitto", "MQTT_PORT", "8883"),
    ):  # fmt: skip
        port = int((values.get(name) or usual).rpartition(":")[2])
        if profile in values["COMPOSE_PROFILES"].split(",") and port in used:
            step = f"end the program that listens there (the site itself does once it runs), or set {name} in .env"
            return Problem(f"port {port} is in use", step)
        used.add(port)
    return None


def _ports_in_use() -> set[int]:
    """Returns the ports in the state LISTEN, 0A in the tables of Linux. To try a port would need root."""
    tables = [Path("/proc/net", name) for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}


def _check_store_keys(values: Mapping[str, str]) -> Problem | None:
    """Only the site's own store knows the names that the compose file puts for an empty key."""
    empty = [name for name, value in values.items() if name.startswith("S3_KEY_") and not value]
    if not empty or "s3" in values["COMPOSE_PROFILES"].split(","):
        return None
    return Problem(f"empty: {', '.join(empty)}", "write the access key IDs of the store into .env")


def _check_names(values: Mapping[str, str]) -> Problem | None:
    domain, profiles = values["SITE_DOMAIN"], values["COMPOSE_PROFILES"].split(",")
    names = (domain, f"dagster.{domain}", *([f"grafana.{domain}"] if "grafana" in profiles else []))
    for name in names if domain != "localhost" else ():  # browsers know the names below it
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
