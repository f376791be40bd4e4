"""Reads and validates what people may change in a site: `.env`, sources, rules, sinks and targets of alerts."""

import re
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from imgpipeline.errors import ConfigurationError
from imgpipeline.events.alerts.delivery import check_names, read_targets
from imgpipeline.events.configuration import load_rules
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sinks.configuration import load_sinks
from imgpipeline.sources.configuration import load_sources

_PROFILE = "(kafka|s3|postgres|proxy|alerts|tools|mosquitto|clickhouse|opensearch|prometheus|grafana)"
_PORT = r"(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]\d{4}|[1-9]\d{0,3})"
_ALLOWED = {
    "SITE_IMAGE": r"\S+",
    "FIRST_DAY": r"\S+",
    "COMPOSE_PROFILES": f"{_PROFILE}(,{_PROFILE})*",
    "SITE_DOMAIN": r"([A-Za-z0-9-]+\.)*[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*",
    "SITE_MAIL": r"|[^\s@]+@[^\s@]+",
    "STORE_URL": r"s3a?://[^/].*",
    "CERTIFICATES": "|acme|own",
    "LOGIN": "|users|oidc",
    "INTERNAL": "|true|false",
    "PARTITIONS": r"|[1-9]\d*",
    "PAGES_SUBNET": r"|[\da-f.:]+/\d+",
    **dict.fromkeys(("HTTP_PORT", "MQTT_PORT"), rf"|([\w.:\[\]]+:)?{_PORT}"),
    **dict.fromkeys(("HTTPS_PORT", "POSTGRES_PORT"), f"|{_PORT}"),
}
"""Patterns of the variables that imgpipeline itself does not read."""
_LOGINS = Path("/run/secrets/cameras")
"""Where the container of the sources sees `secrets/cameras`."""
REQUIRED = [name for name, allowed in _ALLOWED.items() if not re.fullmatch(allowed, "")]


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def read_environment(path: Path) -> dict[str, str]:
    """Returns the variables of a `.env`, empty if there is none; raises ConfigurationError if a line is not one."""
    text = _text(path)
    for found in parse_stream(StringIO(text)):
        if found.error:
            raise ConfigurationError(f"{path}, line {found.original.line}: not NAME=VALUE.", next_step="correct it")
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(text)).items()}


def read_site(folder: Path) -> Settings:
    """Returns the settings that the containers have; raises ConfigurationError, without secrets, if a site is wrong."""
    values = read_environment(folder / ".env")
    wrong = [name for name, allowed in _ALLOWED.items() if not re.fullmatch(allowed, values.get(name, ""))]
    wrong += ["LOGIN_ADDRESS"] if values.get("LOGIN") == "oidc" and not values.get("LOGIN_ADDRESS") else []
    if wrong:
        step = "imgpipeline site init FOLDER adds what is missing; docs/deploy.md lists the settings"
        raise ConfigurationError(f"Missing or wrong in .env: {', '.join(wrong)}.", next_step=step)
    given = {name: _text(folder / "secrets" / name) for name in ("sinks", "alert_targets")}
    written = r"(?m)^ +IMGPIPELINE_(\w+): \$\{(\w+)(?::?-([^}]*))?"
    for name, variable, default in re.findall(written, _text(folder / "compose.yaml")):
        given[name.lower()] = values.get(variable) or default
    # The working folder may be the one of a site, whose variables have other meanings than settings of the same name.
    settings = load_settings(_env_file=None, **{name: value for name, value in given.items() if value})
    load_sinks(settings)
    check_names(read_targets(settings), load_rules(folder / "rules.toml"))
    for source in load_sources(folder / "sources.toml"):
        file, variable = (getattr(source, f"credentials_{place}", None) for place in ("file", "env"))
        is_lost = file and file.parent == _LOGINS and not (folder / "secrets" / "cameras" / file.name).is_file()
        if is_lost or variable or "@" in (getattr(source, "url", None) or ""):
            place = f"secrets/cameras/{file.name if file else source.name}"
            step = f"write it into {place}, and name it in credentials_file: docs/deploy.md, More cameras"
            raise ConfigurationError(f"The login of {source.name} is in no file of secrets/cameras/.", next_step=step)
        if settings.model == "demo":
            raise ConfigurationError("MODEL=demo knows no real images.", next_step="set MODEL=yolox-nano, and pull it")
    return settings
