"""Calls that name no day cost as many requests with many days that are over as with few."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Frame, make_frame_id_without_time
from imgpipeline.daily.states import day_states
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.query.explain import NumberId, explain
from imgpipeline.lake.query.frames import list_frames
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.dead_letters import Wanted, find_dead_letters
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.reports.inputs import reported_days
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.lake.audits import run_audit
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, write_chain, writer
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
def test_calls_that_name_no_day_cost_no_requests_for_days_that_are_over(site):
    site.live(FEW)
    few = site.costs()
    site.live(MORE)
    assert site.costs() == few


@pytest.mark.slow
@pytest.mark.servers
def test_one_more_segment_costs_a_few_requests_however_many_days_are_over(site):
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


NEXT = DAY + timedelta(days=1)
FRAME_ID = make_frame_id_without_time("images/gate/poster.jpg", "an e-tag")


def poster(offset: int, *labels: str, day: date) -> Frame:
    """Return the image with what a detector found in it when it was announced at an offset."""
    return replace(seen(offset, labels, day), frame_id=FRAME_ID)


@pytest.fixture(params=[[], [DAY], [DAY, NEXT]], ids=["unbuilt", "first day built", "both days built"])
def lake_of_two_days(request: pytest.FixtureRequest, memory: ObjectStore) -> ObjectStore:
    """Announce the image on one day, then twice on the next, where another model finds more in it."""
    write_chain(memory, [poster(0, "car", "dog", day=DAY)], [poster(1, "car", "car", "person", day=NEXT)])
    write_chain(memory, [poster(2, "person", day=NEXT)])
    for day in request.param:
        rebuild_day(memory, day, now=NOON)
    return memory


@pytest.mark.medium
@pytest.mark.fault(19)
def test_each_day_counts_it_once(lake_of_two_days, lake):
    with lake(lake_of_two_days) as session:
        assert session.query("SELECT day, frame_id, source_kafka_offset FROM frames ORDER BY day").rows == [
            (DAY, FRAME_ID, 0),
            (NEXT, FRAME_ID, 1),
        ]
        assert session.query("SELECT day, sum(frames) FROM frame_stats GROUP BY day ORDER BY day").rows == [
            (DAY, 1),
            (NEXT, 1),
        ]
        assert session.query("SELECT day, label, count, distinct_frames FROM label_counts ORDER BY ALL").rows == [
            (DAY, "car", 1, 1),
            (DAY, "dog", 1, 1),
            (NEXT, "car", 2, 1),
            (NEXT, "person", 1, 1),
        ]
        assert [len(found) for found in list_frames(session, WantedFrames()).table["detections"].to_pylist()] == [2, 2]
    assert run_audit(lake_of_two_days, full=True).ok


@pytest.mark.medium
def test_detections_belong_to_the_frame_of_their_day(lake_of_two_days, lake):
    joined = (
        "SELECT day, f.source_kafka_offset, count(*) FROM frames AS f JOIN detections AS d USING (day, frame_id) "
        "WHERE d.source_kafka_offset = f.source_kafka_offset GROUP BY ALL ORDER BY ALL"
    )
    with lake(lake_of_two_days) as session:
        assert session.query(joined).rows == [(DAY, 0, 2), (NEXT, 1, 3)]
        assert session.query("SELECT count(*) FROM frames JOIN detections USING (day, frame_id)").rows == [(5,)]


@pytest.mark.medium
@pytest.mark.parametrize(("day", "offset", "cars"), [(DAY, 0, 1), (NEXT, 1, 2)], ids=["first day", "second day"])
def test_a_number_is_traced_to_the_frame_of_its_day(lake_of_two_days, lake, day, offset, cars):
    with lake(lake_of_two_days) as session:
        found = explain(session, lake_of_two_days, NumberId(day, None, "car"), Settings(_env_file=None))
        assert (found.count, found.frames, [each.offset for each in found.detections]) == (cars, 1, [offset] * cars)
        by_macro = f"SELECT source_kafka_offset FROM explain_label_counts(DATE '{day}', 12, 'car')"  # noqa: S608 - a day
        assert session.query(by_macro).rows == [(offset,)] * cars
