"""Writes the folder of a site: the compose file and what belongs to it, `.env`, `sources.toml` and `rules.toml`.

A second call renews what comes from this version, which is how a site is upgraded, and keeps what people may change.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from imgpipeline import __version__
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.site.secrets import SecretFiles, make_secrets

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
_READABLE = 0o644
"""Containers read the files as another user, whatever the umask is."""
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
    model: str = "demo"
    store: str = ""
    """`s3://bucket/prefix` of a store that exists; empty: a server that is part of the site."""
    store_endpoint: str = ""
    """URL of that store, if it is not AWS."""
    cameras: Sequence[tuple[str, str]] = ()
    """Name and `rtsp://` address of each."""
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
    _check_answers(answers)
    cameras, logins = _without_logins(answers.cameras)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _copy_parts(folder)
        files = SecretFiles(folder / "secrets")
        given = {f"cameras/{name}": login for name, login in logins.items()}
        shown = make_secrets(files, {**given, "alert_targets": answers.alert_targets}, now)
        files.make("sinks", lambda: _sinks(answers.sinks, files))
        for name, text in (
            (".env", _environment(answers, now)),
            ("sources.toml", _sources(cameras, logins)),
            ("rules.toml", _RULES),
        ):
            if not (folder / name).exists():
                (folder / name).write_text(text)
            (folder / name).chmod(_READABLE)
        _renew_image(folder / ".env")
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename} cannot be written: {error.strerror}.",
            next_step="give this user write access, or name another folder",
        ) from error
    return shown


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
            (folder / place).chmod(_READABLE)


def _renew_image(environment: Path) -> None:
    """Names the image of this version, unless people named one from elsewhere."""
    text = environment.read_text()
    environment.write_text(re.sub(r"(?m)^SITE_IMAGE=imgpipeline:.*$", f"SITE_IMAGE=imgpipeline:{__version__}", text))


def _check_answers(answers: SiteAnswers) -> None:
    if not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", answers.domain):
        raise UsageError(f"{answers.domain} is not a host name.", next_step="--domain cameras.example")
    if answers.store and not re.match(r"s3a?://[^/]", answers.store):
        raise UsageError(f"{answers.store} is not an S3 address.", next_step="--store s3://BUCKET/PREFIX")
    for sink in answers.sinks:
        if sink not in _SINK_SERVERS and "=" not in sink:
            raise UsageError(f"There is no sink {sink}.", next_step=f"--sink {', '.join(_SINK_SERVERS)} or NAME=URL")


def _environment(answers: SiteAnswers, now: datetime) -> str:
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
    }
    if not own_store:
        endpoint = answers.store_endpoint or "https://s3.${S3_REGION}.amazonaws.com"
        values |= {"S3_REGION": "us-east-1", "S3_ENDPOINT": endpoint, "LOGS_BUCKET": urlsplit(answers.store).netloc}
    if not own_store or set(answers.sinks) - set(_SINK_SERVERS):
        values["INTERNAL"] = "false"
    about = "# The settings of this site: docs/deploy.md lists them. No secrets: those are in secrets/.\n"
    return about + "".join(f"{name}={value}\n" for name, value in values.items())


def _sinks(sinks: Sequence[str], files: SecretFiles) -> str:
    passwords = {"clickhouse_password": files.read("clickhouse_password")}
    return " ".join(_SINK_SERVERS.get(sink, sink).format_map(passwords) for sink in sinks)


def _without_logins(cameras: Sequence[tuple[str, str]]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Splits `user:password@` off the addresses of cameras."""
    addresses: dict[str, str] = {}
    logins: dict[str, str] = {}
    for name, url in cameras:
        parts = urlsplit(url)
        login, _, host = parts.netloc.rpartition("@")
        if parts.scheme not in ("rtsp", "rtsps") or not parts.hostname or (login and not parts.password):
            raise UsageError(
                f"The address of the camera {name} is not one.",
                next_step="--camera NAME=rtsp://HOST/PATH or NAME=rtsp://USER:PASSWORD@HOST/PATH",
            )
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UsageError(f"{name} cannot be the name of a file.", next_step="use letters, digits and . _ -")
        logins |= {name: unquote(login)} if login else {}
        addresses[name] = urlunsplit(parts._replace(netloc=host))
    return addresses, logins


def _sources(cameras: Mapping[str, str], logins: Mapping[str, str]) -> str:
    lines = ["# The cameras and other sources: docs/sources.md. A change takes effect at once."]
    for name, url in cameras.items():
        lines += ["", "[[source]]", f'name = "{name}"', 'kind = "rtsp"', f'url = "{url}"', "fps = 5"]
        lines += [f'credentials_file = "/run/secrets/cameras/{name}"'] if name in logins else []
    return "\n".join(lines) + "\n"
