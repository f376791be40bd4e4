"""Writes the folder of a site: the compose file and what belongs to it, `.env`, `sources.toml` and `rules.toml`.

A second call renews what comes from this version, which is how a site is upgraded, and keeps what people may change.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit, urlunsplit

from imgpipeline import __version__
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.site.environment import REQUIRED, read_environment, read_site
from imgpipeline.site.secrets import READABLE, S3_USERS, SecretFiles, make_secrets, random_password, write_file
from imgpipeline.sources.rtsp import read_address
from imgpipeline.vision.registry import registered_model

_PACKAGE = Path(__file__).resolve().parents[1]
_PARTS = {
    "compose": ".",
    "dagster.yaml": "dagster/dagster.yaml",
    "prometheus": "prometheus",
    "grafana": "grafana",
}
"""Where each part of `deploy/` belongs in the folder of a site."""
_SINK_SERVERS = {
    "clickhouse": "warehouse=clickhouse://imgpipeline:{clickhouse_password}@clickhouse:8123/default",
    "opensearch": "search=opensearch+http://opensearch:9200",
}
_SHOWN_SECRET = re.compile(r"[@#\s\x7f]|(user|login|pass|pwd|token|auth|secret|key)\w*=", re.IGNORECASE)
"""What the address of a camera may not have: the rest of a login, or one in a parameter; nor what no URL has."""
_ABOUT = "# The settings of this site: docs/deploy.md lists them. No secrets: those are in secrets/.\n"
_RULES = (
    "# What makes an event, and who is told: docs/events.md. `docker compose run --rm tools imgpipeline rules check`\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteAnswers:
    """What a site needs to know."""

    domain: str
    """Host name of the viewer; Dagster's pages are at `dagster.` in front of it."""
    mail: str = ""
    """Address for the authority of certificates; without it, the proxy makes its own."""
    timezone: str = "UTC"
    model: str = "yolox-nano"
    store: str = ""
    """`s3://bucket/prefix` of a store that exists; empty: a server that is part of the site."""
    store_endpoint: str = ""
    """URL of that store, if it is not AWS."""
    cameras: Sequence[str] = ()
    """`NAME=rtsp://…` of each."""
    sinks: Sequence[str] = ()
    """`clickhouse`, `opensearch`, or `NAME=URL` of a server elsewhere."""
    alert_targets: str = ""
    monitoring: bool = False


def write_site(folder: Path, answers: SiteAnswers, now: datetime) -> dict[str, str]:
    """Writes the folder of a site.

    Returns:
        What is shown only once: the password of the first user and the first API key, as far as they are new.

    Raises:
        ConfigurationError: The folder cannot be written, or this installation lacks the files.
        UsageError: An answer cannot be right.
    """
    try:
        read_environment(folder / ".env")  # before anything is replaced
        with TemporaryDirectory() as trial:
            _write_settings(Path(trial), answers, now)
            try:
                read_site(Path(trial))
                registered_model(answers.model)
            except ConfigurationError as error:
                raise UsageError(error.message, next_step="imgpipeline site init --help") from None
        return make_secrets(_write_settings(folder, answers, now), now)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename or folder} cannot be written: {error.strerror or error.args[0][0][-1]}.",
            next_step="free space, give this user write access, or name another folder",
        ) from error


def _write_settings(folder: Path, answers: SiteAnswers, now: datetime) -> SecretFiles:
    """Writes what comes from this version and from the answers, with the secrets that people gave."""
    cameras, logins = _without_logins(answers.cameras)
    folder.mkdir(parents=True, exist_ok=True)
    _copy_parts(folder)
    files = SecretFiles(folder / "secrets")
    for name, login in logins.items():
        files.make(f"cameras/{name}", login)
    for user in S3_USERS if answers.store else ():
        files.make(f"s3_secret_{user}", "")  # for the key of that store
    files.make("alert_targets", answers.alert_targets)
    files.make("clickhouse_password", random_password)
    files.make("sinks", _sinks(answers.sinks, files.read("clickhouse_password")))
    for name, text in (("sources.toml", _sources(cameras, logins)), ("rules.toml", _RULES)):
        if not (folder / name).exists():
            write_file(folder / name, text)
        (folder / name).chmod(READABLE)
    _complete(folder / ".env", _environment(answers, now))  # after the cameras: from now on, answers have no effect
    return files


def _copy_parts(folder: Path) -> None:
    """Copies the files of this version, from the installed package or from the checkout."""
    places = (_PACKAGE / "shipped" / "deploy", _PACKAGE.parent / "deploy")
    origin = next((place for place in places if (place / "compose").is_dir()), None)
    if origin is None:
        raise ConfigurationError("This installation lacks the compose file.", next_step="install imgpipeline again")
    for part, place in _PARTS.items():
        source = origin / part
        if source.is_dir():
            shutil.copytree(source, folder / place, dirs_exist_ok=True)
        elif source.exists():
            shutil.copyfile(source, folder / place)
            (folder / place).chmod(READABLE)


def _complete(path: Path, variables: Mapping[str, str]) -> None:
    """Adds what a site needs to `.env`, and names the image of this version, unless people named one from elsewhere."""
    known, text = read_environment(path), path.read_text() if path.exists() else _ABOUT
    wanted = REQUIRED if path.exists() else variables
    missing = [f"{name}={variables[name]}" for name in wanted if not known.get(name)]
    text = "\n".join([text.rstrip("\n"), *missing, ""])
    write_file(path, re.sub(r"(?m)^SITE_IMAGE=imgpipeline:.*$", f"SITE_IMAGE=imgpipeline:{__version__}", text))


def _environment(answers: SiteAnswers, now: datetime) -> dict[str, str]:
    own_store = not answers.store
    profiles = ["kafka", "postgres", "proxy"] + (["s3"] if own_store else [])
    profiles += [name for name in answers.sinks if name in _SINK_SERVERS]
    profiles += ["alerts"] if answers.alert_targets else []
    profiles += ["prometheus", "grafana"] if answers.monitoring else []
    values: dict[str, str] = {
        "SITE_IMAGE": f"imgpipeline:{__version__}",
        "COMPOSE_PROFILES": ",".join(profiles),
        "SITE_DOMAIN": answers.domain,
        "SITE_MAIL": answers.mail,
        "CERTIFICATES": "acme" if answers.mail else "own",
        "SITE_TIMEZONE": answers.timezone,
        "FIRST_DAY": now.date().isoformat(),
        "MODEL": answers.model,
        "STORE_URL": answers.store or "s3://site",
        "KEEP_IMAGES_DAYS": "7",
    }
    if not own_store:
        endpoint = answers.store_endpoint or "https://s3.${S3_REGION}.amazonaws.com"
        values |= {"S3_REGION": "us-east-1", "S3_ENDPOINT": endpoint, "LOGS_BUCKET": urlsplit(answers.store).netloc}
        values |= {f"S3_KEY_{user.upper()}": "" for user in S3_USERS}
    if not own_store or set(answers.sinks) - set(_SINK_SERVERS):
        values["INTERNAL"] = "false"
    return values


def _sinks(sinks: Sequence[str], clickhouse_password: str) -> str:
    own = {name: text.format(clickhouse_password=clickhouse_password) for name, text in _SINK_SERVERS.items()}
    return " ".join(own.get(sink, sink) for sink in sinks)


def _without_logins(cameras: Sequence[str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Splits `user:password@` off the addresses of cameras. No error shows a value, which may be a password."""
    addresses: dict[str, str] = {}
    logins: dict[str, str] = {}
    for number, camera in enumerate(cameras, start=1):
        name, _, url = camera.partition("=")
        if not (url and re.fullmatch(r"\w[\w.-]*", name)) or name in addresses:
            raise UsageError(
                f"Camera {number}: expected NAME=URL with a name of its own, of letters, digits and . _ -",
                next_step="--camera NAME=rtsp://HOST/PATH",
            )
        read_address(url)
        parts = urlsplit(url)
        login, _, host = parts.netloc.rpartition("@")
        addresses[name] = urlunsplit(parts._replace(netloc=host))
        if _SHOWN_SECRET.search(addresses[name]) or (login and not parts.password):
            raise UsageError(
                f"The address of the camera {name} has no password, or one in the wrong place.",
                next_step="NAME=rtsp://USER:PASSWORD@HOST/PATH, with @ / ? # of a password as %40 %2F %3F %23",
            )
        logins |= {name: unquote(login)} if login else {}
    return addresses, logins


def _sources(cameras: Mapping[str, str], logins: Mapping[str, str]) -> str:
    lines = ["# The cameras and other sources: docs/sources.md. A change takes effect at once."]
    for name, url in cameras.items():
        lines += ["", "[[source]]", f'name = "{name}"', 'kind = "rtsp"', "fps = 5"]
        lines += [f"url = {json.dumps(url, ensure_ascii=False)}"]
        lines += [f'credentials_file = "/run/secrets/cameras/{name}"'] if name in logins else []
    return "\n".join(lines) + "\n"
