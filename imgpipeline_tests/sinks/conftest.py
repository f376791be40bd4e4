"""The targets of the suite."""

from collections.abc import Callable

import pytest

from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.objectstore.stores import fresh_store
from imgpipeline_tests.sinks.clickhouse_target import ClickHouseTarget
from imgpipeline_tests.sinks.meilisearch_target import MeilisearchTarget
from imgpipeline_tests.sinks.search_target import search_target
from imgpipeline_tests.sinks.targets import PostgresTarget, Target

TARGETS: dict[str, Callable[[pytest.FixtureRequest], Target]] = {
    "postgresql": lambda ask: PostgresTarget(ask.getfixturevalue("postgres"), ask.getfixturevalue("toxiproxy")),
    "meilisearch": MeilisearchTarget,
    "clickhouse": lambda ask: ClickHouseTarget(ask.getfixturevalue("clickhouse"), ask.getfixturevalue("toxiproxy")),
    "opensearch": lambda ask: search_target(ask, "opensearch"),
    "elasticsearch": lambda ask: search_target(ask, "elasticsearch"),
}
SLOW = TARGETS.keys() - {"postgresql"}
"""Each target has a client of its own, but `make test` needs to know only whether the export itself works."""
MARKS = (pytest.mark.servers, pytest.mark.slow)


@pytest.fixture(params=[pytest.param(name, marks=MARKS[: 1 + (name in SLOW)]) for name in TARGETS])
def target(request: pytest.FixtureRequest) -> Target:
    """An empty system of each kind."""
    return TARGETS[request.param](request)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """A fresh store in a folder, which other processes can open."""
    return fresh_store("folder", request)
