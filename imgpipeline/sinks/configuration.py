"""Reads the setting `sinks`: words `NAME=URL`, separated by spaces.

The scheme of a URL begins with the kind of the sink: `opensearch+https://user:password@search.local:9200` is OpenSearch
by HTTPS. The parameter `tables` chooses tables: `postgresql://host/database?tables=detections,label_counts`. A kind
without a URL takes the variables of older pipelines: `elasticsearch` those that begin with `ES_`.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import cast
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import read_variable
from imgpipeline.settings.tables import SinkSettings
from imgpipeline.sinks.protocol import GROUP, Sink, SinkConfig, SinkTable

_EXAMPLE = "warehouse=postgresql://user:password@host/database"
_CLASSIC = {
    "elasticsearch": ("ES_HOST_URL", "ES_USERNAME", "ES_PASSWORD"),
    "opensearch": ("ES_HOST_URL", "ES_USERNAME", "ES_PASSWORD"),
    "clickhouse": ("CLICKHOUSE_HOST", "CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD"),
    "meilisearch": ("MEILI_HTTP_ADDR", "", "MEILI_MASTER_KEY"),
}
"""Variables with URL, user and password of older pipelines, by kind."""


def load_sinks(settings: SinkSettings) -> tuple[SinkConfig, ...]:
    """Returns the configured sinks.

    Raises:
        ConfigurationError: The setting is invalid; the message has no password.
    """
    words = settings.sinks.get_secret_value().split() if settings.sinks else []
    found = [
        _config(name, url if equals else _classic_url(name))
        for name, equals, url in (word.partition("=") for word in words)
    ]
    names = [config.name for config in found]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled:
        raise ConfigurationError(f"Two sinks are named {doubled}.", next_step="give each its own name")
    return tuple(found)


def _classic_url(kind: str) -> str:
    """Returns the URL of a kind by the variables of older pipelines."""
    variables = _CLASSIC.get(kind)
    address = read_variable(variables[0]) if variables else None
    if variables is None or address is None:
        given = f"set {variables[0]}, or " if variables else ""
        raise ConfigurationError(
            "IMGPIPELINE_SINKS names a sink without a URL.", next_step=f"{given}write NAME=URL, such as {_EXAMPLE}"
        )
    parts = urlsplit(address if "://" in address else f"http://{address}")
    user, password = (quote(read_variable(name) or "" if name else "", safe="") for name in variables[1:])
    login = f"{user}:{password}@" if (user or password) and "@" not in parts.netloc else ""
    return urlunsplit((f"{kind}+{parts.scheme}", login + parts.netloc, parts.path, parts.query, ""))


def _config(name: str, url: str) -> SinkConfig:
    parts = urlsplit(url)
    kind, _, scheme = parts.scheme.partition("+")
    if not (name.isascii() and name.isidentifier() and name.islower()) or kind not in kinds():
        raise ConfigurationError(
            "IMGPIPELINE_SINKS is invalid: a name has lower-case letters, digits and _, and a URL begins with one of "
            f"{', '.join(sorted(kinds()))}.",
            next_step=f"write NAME=URL, such as {_EXAMPLE}",
        )
    if "@" in parts.path + parts.query + parts.fragment:  # then a part of the password would be shown as the host
        raise ConfigurationError(
            f"The URL of the sink {name} has an @ after its host.",
            next_step="write @ as %40, and / ? # of a user or password as %2F %3F %23",
        )
    login, at, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    query = dict(parse_qsl(parts.query))
    tables = tuple(query.pop("tables", "").split(",")) if "tables" in query else None
    plain = urlunsplit((scheme or kind, user + at + host, parts.path, urlencode(query), ""))
    return SinkConfig(name, kind, plain, SecretStr(unquote(password)) if password else None, tables)


def kinds() -> dict[str, EntryPoint]:
    """Returns the kinds of sinks of this package and of all others that are installed."""
    return {point.name: point for point in entry_points(group=GROUP)}


def open_sink(config: SinkConfig) -> tuple[Sink, tuple[SinkTable, ...]]:
    """Makes a sink, which connects when it is used, and returns it with the tables to copy.

    Raises:
        ConfigurationError: Its package is not installed, its URL is invalid, or it has no such table.
    """
    try:
        make = cast("Callable[[SinkConfig], Sink]", kinds()[config.kind].load())
    except ImportError as error:
        raise ConfigurationError(
            f"The sink {config.name} needs a package that is not installed: {error}.",
            next_step='run `pip install "imgpipeline[sinks]"`',
        ) from None
    sink = make(config)
    by_name = {table.name: table for table in sink.tables}
    unknown = [name for name in config.tables or () if name not in by_name]
    if unknown:
        raise ConfigurationError(
            f"The sink {config.name} has no table {unknown[0]!r}.", next_step=f"choose from {', '.join(by_name)}"
        )
    return sink, tuple(by_name[name] for name in config.tables or by_name)
