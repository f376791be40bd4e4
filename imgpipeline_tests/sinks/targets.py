"""The systems that the suite exports to, each on a real server where one can be had."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import date
from typing import Any, Protocol
from uuid import uuid4

import psycopg2
import psycopg2.extras
from pydantic import SecretStr

from imgpipeline.settings import load_settings
from imgpipeline.sinks.configuration import load_sinks
from imgpipeline.sinks.protocol import SinkConfig, SinkTable
from imgpipeline_tests.servers.postgres_server import PostgresServer
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer
from imgpipeline_tests.sinks.days import Row, in_order

WRONG = "wrong-canary"


class Target(Protocol):
    """A system that a sink writes to, as the suite sees it."""

    config: SinkConfig
    refused: SinkConfig
    """The same with a password that is wrong (`WRONG`)."""

    def rows(self, table: SinkTable, day: date) -> list[Row]:
        """Read the rows of a day with another client than the sink's, in order (`days.in_order`)."""

    def lose_rows(self, table: SinkTable, day: date) -> None:
        """Remove the rows of a day, but not its version, as somebody else might."""

    def drop(self, table: SinkTable) -> None:
        """Remove a table with all of its days, but not their versions."""

    def outage(self) -> AbstractContextManager[None]:
        """Take the system away for the time of the context."""


def config_of(url: str) -> SinkConfig:
    """Return the configuration of a sink named `target`."""
    (config,) = load_sinks(load_settings(sinks=f"target={url}"))
    return config


class PostgresTarget:
    """A fresh database of a real PostgreSQL with a user that needs a password, behind a proxy."""

    def __init__(self, server: PostgresServer, toxiproxy: ToxiproxyServer) -> None:
        name = f"sink_{uuid4().hex[:8]}"
        self._url = server.create_database(name)
        self._proxy = toxiproxy.create_proxy(server.port)
        self.config = config_of(f"postgresql://test@{self._proxy.address}/{name}")
        self.refused = replace(self.config, url=self.config.url.replace("test@", "nobody@"), password=SecretStr(WRONG))

    def rows(self, table: SinkTable, day: date) -> list[Row]:
        with self.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) AS found", [table.name])
            if cursor.fetchone()["found"] is None:
                return []
            cursor.execute(f'SELECT * FROM "{table.name}" WHERE day = %s', [day])  # noqa: S608 - own names
            return in_order(dict(row) for row in cursor.fetchall())

    def lose_rows(self, table: SinkTable, day: date) -> None:
        with self.cursor() as cursor:
            cursor.execute(f'DELETE FROM "{table.name}" WHERE day = %s', [day])  # noqa: S608 - own names

    def drop(self, table: SinkTable) -> None:
        with self.cursor() as cursor:
            cursor.execute(f'DROP TABLE "{table.name}" CASCADE')

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Yield a cursor of a connection of its own, whose rows are dictionaries."""
        connection = psycopg2.connect(self._url, cursor_factory=psycopg2.extras.RealDictCursor)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def outage(self) -> AbstractContextManager[None]:
        return self._proxy.disconnected()
