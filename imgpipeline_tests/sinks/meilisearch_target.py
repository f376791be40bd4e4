"""Meilisearch as a target of the suite: a stand-in, because its program cannot be had here."""

from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date

import pytest
from pydantic import SecretStr

from imgpipeline.sinks.protocol import SinkTable
from imgpipeline_tests.servers.meilisearch_stand_in import MeilisearchStandIn
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer
from imgpipeline_tests.sinks.days import Row, in_order
from imgpipeline_tests.sinks.targets import WRONG, config_of

KEY = "master-canary"


class MeilisearchTarget:
    """An empty stand-in behind a proxy. Its rows are read from its memory."""

    def __init__(self, ask: pytest.FixtureRequest) -> None:
        self.server = MeilisearchStandIn(KEY)
        self.server.__enter__()
        ask.addfinalizer(self.server.__exit__)
        toxiproxy: ToxiproxyServer = ask.getfixturevalue("toxiproxy")
        self._proxy = toxiproxy.create_proxy(self.server.port)
        self.config = config_of(f"meilisearch+http://:{KEY}@{self._proxy.address}")
        self.refused = replace(self.config, password=SecretStr(WRONG))

    def rows(self, table: SinkTable, day: date) -> list[Row]:
        index = self.server.indexes.get(table.name)
        found = index.documents.values() if index else ()
        return in_order(
            {name: value for name, value in document.items() if name != "version"}
            for document in found
            if document["day"] == str(day)
        )

    def lose_rows(self, table: SinkTable, day: date) -> None:
        index = self.server.indexes[table.name]
        index.documents = {name: each for name, each in index.documents.items() if each["day"] != str(day)}

    def drop(self, table: SinkTable) -> None:
        del self.server.indexes[table.name]

    def outage(self) -> AbstractContextManager[None]:
        return self._proxy.disconnected()
