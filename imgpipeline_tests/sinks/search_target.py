"""OpenSearch and Elasticsearch as targets of the suite: one real OpenSearch, behind proxies that ask for a login."""

from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date

import pytest
from pydantic import SecretStr

from imgpipeline.sinks.protocol import SinkTable
from imgpipeline_tests.servers.opensearch import OpenSearchServer
from imgpipeline_tests.servers.search_front import SearchFront
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer
from imgpipeline_tests.sinks.days import Row, in_order
from imgpipeline_tests.sinks.targets import WRONG, config_of

USER, PASSWORD = "indexer", "password-canary"


class SearchTarget:
    """All indices of the session's OpenSearch, which are empty at first."""

    def __init__(self, engine: OpenSearchServer, toxiproxy: ToxiproxyServer, kind: str, front: SearchFront) -> None:
        self.engine, self.front = engine, front
        engine.clear()
        self._proxy = toxiproxy.create_proxy(front.port)
        self.config = config_of(f"{kind}+http://{USER}:{PASSWORD}@{self._proxy.address}")
        self.refused = replace(self.config, password=SecretStr(WRONG))

    def rows(self, table: SinkTable, day: date) -> list[Row]:
        found = list(self.engine.documents(table.name, f'day:"{day}"'))
        return in_order({name: value for name, value in row.items() if name != "export_version"} for row in found)

    def lose_rows(self, table: SinkTable, day: date) -> None:
        wanted = {"query": {"term": {"day": str(day)}}}
        self.engine.ask("POST", f"/{table.name}/_delete_by_query?refresh=true", wanted)

    def drop(self, table: SinkTable) -> None:
        for index in self.engine.ask("GET", f"/_alias/{table.name}"):
            self.engine.ask("DELETE", f"/{index}")

    def outage(self) -> AbstractContextManager[None]:
        return self._proxy.disconnected()


def search_target(ask: pytest.FixtureRequest, kind: str) -> SearchTarget:
    """Return a target of the kind `opensearch` or `elasticsearch`, whose proxy ends with the test."""
    engine = ask.getfixturevalue("opensearch")
    front = SearchFront(engine.port, f"{USER}:{PASSWORD}", elasticsearch=kind == "elasticsearch")
    front.__enter__()
    ask.addfinalizer(front.__exit__)
    return SearchTarget(engine, ask.getfixturevalue("toxiproxy"), kind, front)
