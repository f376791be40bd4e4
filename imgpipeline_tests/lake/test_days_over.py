"""Calls that name no day cost as many requests with many days that are over as with few."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import ChainId
from imgpipeline.daily.states import day_states
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.dead_letters import Wanted, find_dead_letters
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.reports.inputs import reported_days
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, writer
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server

CHAINS = [ChainId("frames", "dGVzdA_topic-id", partition) for partition in range(2)]
FEW, MORE = 2, 6

Call = Callable[[ObjectStore, Path], object]


def query(store: ObjectStore, cache: Path) -> int:
    with open_lake(store, cache_dir=cache) as session:
        return len(session.query("SELECT DISTINCT day FROM frames").rows)


def summarize(store: ObjectStore, cache: Path) -> int:
    with open_lake(store, settings=Settings(), summaries=["label_counts"], cache_dir=cache) as session:
        return len(session.query("SELECT DISTINCT day FROM label_counts").rows)


CALLS: dict[str, Call] = {
    "audit": lambda store, _: audit(store, list, now=NOON).ok,
    "day_states": lambda store, _: day_states(store, Settings(), now=NOON),
    "reported_days": lambda store, _: len(reported_days(store)),
    "query": query,
    "summary": summarize,
    "dead letters": lambda store, _: len(find_dead_letters(store, Wanted())[0]),
}


class Site:
    """A store behind a relay, with days that are over, tables and summaries built."""

    def __init__(self, relay: CountingRelay, bucket: S3Bucket, folder: Path) -> None:
        self.relay, self.folder = relay, folder
        self.store = open_store(s3_settings(bucket, s3_endpoint=relay.endpoint))
        self.days = 0

    def live(self, days: int) -> None:
        """Let some days pass."""
        for number in range(self.days, self.days + days):
            day = DAY + timedelta(days=number)
            for chain in CHAINS:
                made = writer(self.store, chain)
                start = made.end.offset
                assert append(made, [seen(start, ["car"], day, partition=chain.partition), dead_letter(start + 1, day)])
            rebuild_day(self.store, day, now=NOON)
            for name in SUMMARIES:
                build_summary(self.store, name, day, settings=Settings(), now=NOON)
        self.days += days

    def costs(self) -> dict[str, int]:
        """Return the requests of each call, after one that has seen all days."""
        costs = {}
        for name, call in CALLS.items():
            call(self.store, self.folder)
            self.relay.requests.clear()
            call(self.store, self.folder)
            costs[name] = sum(self.relay.requests.values())
        return costs


@pytest.fixture
def site(s3: S3Server, bucket: S3Bucket, tmp_path: Path) -> Iterator[Site]:
    with CountingRelay(s3.port) as relay:
        yield Site(relay, bucket, tmp_path)


@pytest.mark.slow
@pytest.mark.servers
def test_calls_that_name_no_day_cost_no_requests_for_days_that_are_over(site: Site) -> None:
    site.live(FEW)
    few = site.costs()
    site.live(MORE)
    assert site.costs() == few


@pytest.mark.slow
@pytest.mark.servers
def test_one_more_segment_costs_a_few_requests_however_many_days_are_over(site: Site) -> None:
    added = []
    for days in (FEW, MORE):
        site.live(days)
        before = site.costs()
        made = writer(site.store, CHAINS[0])
        assert append(made, [seen(made.end.offset, ["dog"], DAY + timedelta(days=site.days - 1))])
        costs = {}
        for name, call in CALLS.items():
            site.relay.requests.clear()
            call(site.store, site.folder)
            costs[name] = sum(site.relay.requests.values()) - before[name]
        added.append(costs)
        rebuild_day(site.store, DAY + timedelta(days=site.days - 1), now=NOON)
        for name in SUMMARIES:
            build_summary(site.store, name, DAY + timedelta(days=site.days - 1), settings=Settings(), now=NOON)
    assert added[0] == added[1]
