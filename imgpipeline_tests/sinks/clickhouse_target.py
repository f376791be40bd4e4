"""ClickHouse as a target of the suite."""

from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
from pydantic import SecretStr

from imgpipeline.sinks.protocol import SinkTable
from imgpipeline_tests.servers.chdb_http import PASSWORD, USER
from imgpipeline_tests.servers.clickhouse_server import ClickHouseServer
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer
from imgpipeline_tests.sinks.days import Row, in_order
from imgpipeline_tests.sinks.targets import WRONG, config_of


class ClickHouseTarget:
    """A fresh database, behind a proxy."""

    def __init__(self, server: ClickHouseServer, toxiproxy: ToxiproxyServer) -> None:
        self.database = f"sink_{uuid4().hex[:8]}"
        self.server = server
        server.ask(f"CREATE DATABASE {self.database}")
        self.proxy = toxiproxy.create_proxy(server.port)
        self.config = config_of(f"clickhouse://{USER}:{PASSWORD}@{self.proxy.address}/{self.database}")
        self.refused = replace(self.config, password=SecretStr(WRONG))

    def rows(self, table: SinkTable, day: date) -> list[Row]:
        if self.ask(f"EXISTS TABLE {table.name}") == b"0\n":
            return []
        answer = self.ask(f"SELECT * FROM {table.name} WHERE day = '{day}' FORMAT Arrow")  # noqa: S608 - own SQL
        return in_order(map(with_times, pa.ipc.open_file(answer).read_all().to_pylist()))

    def lose_rows(self, table: SinkTable, day: date) -> None:
        self.ask(f"ALTER TABLE {table.name} DROP PARTITION '{day}'")

    def drop(self, table: SinkTable) -> None:
        self.ask(f"DROP TABLE {table.name} SYNC")

    def ask(self, query: str) -> bytes:
        """Execute a query, past the proxy."""
        return self.server.ask(query, self.database)

    def outage(self) -> AbstractContextManager[None]:
        return self.proxy.disconnected()


def with_times(row: Row) -> Row:
    """Return a row with the `timestamp` of `images_metadata` as a time: Arrow has ClickHouse's DateTime as a number."""
    seconds: Any = row.get("timestamp")
    return row | {"timestamp": datetime.fromtimestamp(seconds, UTC)} if isinstance(seconds, int) else row
