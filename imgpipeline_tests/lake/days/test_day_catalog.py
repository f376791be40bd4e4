"""The day catalogue: a call that names no day costs requests for new segments only, and never misses one."""

import json
from collections import Counter
from datetime import date, timedelta

import pytest
import zstandard
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imgpipeline.contracts.keys import ChainId, day_table_key, follower_key, segment_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.lake.days.day_catalog import DayCatalog, KnownDays, open_catalog
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.tables import DAY_TABLES, Table
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.lake.storage.manifest import read_manifest
from imgpipeline.ledger.days import known_days
from imgpipeline.ledger.follow import OffsetRange
from imgpipeline.ledger.reading import list_segments
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ForbiddenError, ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.daily.looking import stale_days
from imgpipeline_tests.examples import examples
from imgpipeline_tests.lake.audits import run_audit
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    NOON,
    append,
    frame,
    frames,
    gap,
    stored_segments,
    write_chain,
    writer,
)
from imgpipeline_tests.ledger.test_follow import repair_chain
from imgpipeline_tests.objectstore.noting import NotingStore

NEXT = DAY + timedelta(days=1)


def test_a_day_whose_segments_were_all_noted_is_known_exactly():
    known = KnownDays()
    known.note(CHAIN, 5, [DAY, NEXT])
    assert known.has_newer_segments(DAY, {}) is True
    assert known.has_newer_segments(DAY, {CHAIN: 5}) is True
    assert known.has_newer_segments(DAY, {CHAIN: 6}) is False
    assert known.has_newer_segments(DAY + timedelta(days=9), {}) is False


def test_only_what_was_noted_is_known_of_other_days():
    known = KnownDays()
    known.begin([DAY])
    assert known.has_newer_segments(DAY, {}) is None
    known.note(CHAIN, 5, [DAY])
    assert known.has_newer_segments(DAY, {CHAIN: 5}) is True
    assert known.has_newer_segments(DAY, {CHAIN: 6}) is None


def test_a_version_is_complete_until_its_day_gets_a_segment():
    known = KnownDays()
    known.note(CHAIN, 5, [DAY])
    known.note_complete(DAY, "tables", "v1")
    assert known.is_complete(DAY, "tables", "v1")
    assert not known.is_complete(DAY, "tables", "v2")
    assert not known.is_complete(DAY, "summaries", "v1")
    assert not known.is_complete(NEXT, "tables", "v1")
    known.note(CHAIN, 9, [DAY])
    assert not known.is_complete(DAY, "tables", "v1")


def test_nothing_is_complete_without_a_version():
    known = KnownDays()
    known.note(CHAIN, 5, [DAY])
    known.note_complete(DAY, "tables", "")
    assert not known.is_complete(DAY, "tables", "")


def test_a_repair_makes_its_days_uncertain():
    known = KnownDays()
    known.note(CHAIN, 5, [DAY])
    known.note(CHAIN, 8, [NEXT])
    known.note_complete(NEXT, "tables", "v1")
    known.forget(OffsetRange(CHAIN, 5, 8))
    assert known.has_newer_segments(DAY, {CHAIN: 100}) is None
    assert known.is_complete(NEXT, "tables", "v1")


def test_starts_are_kept_for_recent_and_incomplete_days():
    known = KnownDays()
    days = [DAY + timedelta(days=n) for n in range(12)]
    for number, day in enumerate(days):
        known.note(CHAIN, number, [day])
        if number:
            known.note_complete(day, "tables", f"v{number}")
    kept = KnownDays.from_json(known.to_json())
    assert [day for day in days if kept.days[day].newest] == [days[0], *days[4:]]
    assert [day for day in days if kept.has_newer_segments(day, {CHAIN: 100}) is None] == days[1:4]
    assert all(kept.is_complete(day, "tables", f"v{number}") for number, day in enumerate(days) if number)


CATALOG = follower_key("days")


@pytest.fixture
def counting(folder: ObjectStore) -> NotingStore:
    return NotingStore(folder)


def count_frames(lake, store: NotingStore) -> tuple[int, int]:
    """Open a session; answer how many frames it shows, and how many segments it has read."""
    store.fetched.clear()
    with lake(store) as session:
        return session.query("SELECT count(*) FROM frames").rows[0][0], len(store.segments)


def one_day_and_most_of_a_bucket_behind_it(store: ObjectStore):
    made = write_chain(store, frames(0, 3))
    rebuild_day(store, DAY, now=NOON)
    for offset in range(3, 43):
        append(made, frames(offset, offset + 1, NEXT))
    rebuild_day(store, NEXT, now=NOON)
    return made


@pytest.mark.medium
def test_only_the_first_session_reads_the_rest_of_the_last_bucket_of_a_day(counting, lake):
    made = one_day_and_most_of_a_bucket_behind_it(counting)
    shown, read = count_frames(lake, counting)
    assert (shown, read >= 40) == (43, True)
    shown, read = count_frames(lake, counting)
    assert (shown, read) == (43, 0)  # a listing shows that the last segment is the same: the end, and the notes, hold
    append(made, frames(43, 45, NEXT))
    shown, read = count_frames(lake, counting)
    assert (shown, read <= 6) == (45, True)


def test_an_audit_reads_it_once_too(counting):
    one_day_and_most_of_a_bucket_behind_it(counting)
    for most in (1000, 4):
        counting.fetched.clear()
        assert not any(day.stale for day in run_audit(counting).days)
        assert len(counting.segments) <= most


@pytest.mark.medium
def test_a_late_frame_after_a_quiet_period_is_shown(counting, lake):
    made = one_day_and_most_of_a_bucket_behind_it(counting)
    count_frames(lake, counting)
    append(made, [seen(43, ["dog"])])
    assert [count_frames(lake, counting)[0] for _ in range(2)] == [44, 44]
    rebuild_day(counting, DAY, now=NOON)
    assert [count_frames(lake, counting)[0] for _ in range(2)] == [44, 44]


@pytest.mark.medium
def test_a_store_recreated_under_the_same_url_has_no_complete_days(counting, lake):
    one_day_and_most_of_a_bucket_behind_it(counting)
    count_frames(lake, counting)
    for info in list(counting.list_objects()):
        counting.delete(info.key)
    made = write_chain(counting, frames(0, 3))
    rebuild_day(counting, DAY, now=NOON)
    append(made, frames(3, 43))
    assert count_frames(lake, counting)[0] == 43


@pytest.mark.medium
def test_removed_tables_are_replaced_from_the_beginning(counting, lake):
    one_day_and_most_of_a_bucket_behind_it(counting)
    count_frames(lake, counting)
    counting.delete(f"frames/day={DAY}/frames.parquet")
    assert count_frames(lake, counting)[0] == 43
    assert segment_key(CHAIN, 0) in counting.segments


@pytest.mark.medium
@pytest.mark.parametrize("content", [b"", b"{}", b"{", None], ids=["empty", "no zstd", "cut", "of a newer release"])
def test_an_unreadable_catalogue_is_rebuilt(counting, lake, content):
    one_day_and_most_of_a_bucket_behind_it(counting)
    count_frames(lake, counting)
    newer = zstandard.compress(json.dumps({"version": 99}).encode())
    counting.put(CATALOG, newer if content is None else content)
    assert count_frames(lake, counting)[0] == 43
    assert stale_days(counting) == []
    assert open_catalog(counting).days == [DAY, NEXT]


def test_the_first_call_makes_the_catalogue(counting):
    one_day_and_most_of_a_bucket_behind_it(counting)
    assert counting.head(CATALOG) is None
    assert stale_days(counting) == []
    assert counting.head(CATALOG) is not None


def test_the_later_of_two_concurrent_saves_loses(memory):
    made = write_chain(memory, frames(0, 3))
    stale_days(memory)
    sleeper = open_catalog(memory)
    sleeper.known.note_complete(DAY, "whatever", "1")
    append(made, frames(3, 5, NEXT))
    stale_days(memory)
    saved = memory.get(CATALOG)
    assert not sleeper.save()
    assert memory.get(CATALOG) == saved
    assert open_catalog(memory).checkpoint.ends == {CHAIN: 5}


def test_an_account_without_write_access_can_read(memory):
    write_chain(memory, frames(0, 3))

    def refuse(*_: object) -> bool:
        raise ForbiddenError("no")

    memory.create = memory.replace = refuse
    assert stale_days(memory) == [DAY]
    assert memory.head(CATALOG) is None


@pytest.mark.medium
def test_a_catalogue_that_is_far_behind_reads_the_day_index_instead_of_segments(counting):
    one_day_and_most_of_a_bucket_behind_it(counting)
    stale_days(counting)
    made = writer(counting)
    for offset in range(43, 43 + 1_500):
        append(made, frames(offset, offset + 1, NEXT + timedelta(days=offset % 2)))
    counting.fetched.clear()
    assert stale_days(counting) == [NEXT, NEXT + timedelta(days=1)]
    assert len(counting.segments) < 1_400


def test_a_damaged_segment_makes_only_its_own_days_stale(memory):
    write_chain(memory, frames(0, 3), [gap(3, 1_000)], frames(1_000, 1_003, NEXT))
    for day in (DAY, NEXT):
        rebuild_day(memory, day, now=NOON)
    assert stale_days(memory) == []
    append(writer(memory), frames(1_003, 1_006, NEXT))
    append(writer(memory), frames(1_006, 1_009, NEXT))
    memory.put(segment_key(CHAIN, 1_003), b"damaged")
    assert stale_days(memory) == [NEXT]
    assert stale_days(memory) == [NEXT]


CHAINS = [CHAIN, ChainId("frames", "dGVzdA_topic-id", 1)]
DAYS = [DAY + timedelta(days=n) for n in range(3)]


class CatalogMachine(RuleBasedStateMachine):
    """Whatever is written, built, lost or saved late, the stale days are those that a full search finds."""

    def __init__(self) -> None:
        super().__init__()
        self.store = open_memory_store()
        self.asleep: list[DayCatalog] = []

    @rule(chain=st.sampled_from(CHAINS), day=st.sampled_from(DAYS), length=st.sampled_from([1, 700]))
    def write(self, chain: ChainId, day: date, length: int) -> None:
        made = writer(self.store, chain)
        start = made.end.offset
        rest = [gap(start + 1, start + length)] if length > 1 else []
        assert append(made, [frame(start, day), *rest])

    @rule(day=st.sampled_from(DAYS))
    def build(self, day: date) -> None:
        if day in known_days(self.store):
            rebuild_day(self.store, day, now=NOON)

    @rule(day=st.sampled_from(DAYS), table=st.sampled_from(DAY_TABLES))
    def lose_a_table(self, day: date, table: Table) -> None:
        self.store.delete(day_table_key(table.name, day))

    @rule()
    def open_and_sleep(self) -> None:
        self.asleep.append(open_catalog(self.store))

    @precondition(lambda self: self.asleep)
    @rule()
    def save_late(self) -> None:
        self.asleep.pop(0).save()

    @rule(content=st.none() | st.just(b"damaged"))
    def lose_the_catalogue(self, content: bytes | None) -> None:
        if content is None:
            self.store.delete(CATALOG)
        else:
            self.store.put(CATALOG, content)

    @rule(days=st.none() | st.sets(st.sampled_from(DAYS), min_size=1).map(sorted))
    def query(self, days: list[date] | None) -> None:
        frames = {o.frame_id: o.day for s in self.segments() for o in s.outcomes() if isinstance(o, Frame)}
        found = Counter(day for day in frames.values() if days is None or day in days)
        with open_lake(self.store, days=days) as session:
            rows = session.query("SELECT day, count(*) FROM frames GROUP BY day").rows
        assert dict(rows) == found

    @rule(chain=st.sampled_from(CHAINS), data=st.data())
    def repair(self, chain: ChainId, data: st.DataObject) -> None:
        starts = list_segments(self.store, chain, 0, 10**6)[:-1]  # nobody here knows where the last one ended
        if starts:
            self.store.put(segment_key(chain, data.draw(st.sampled_from(starts))), b"damaged")
            repair_chain(self.store, chain)
            for day in known_days(self.store):
                rebuild_day(self.store, day, now=NOON)

    def segments(self) -> list[Segment]:
        return [segment for chain in CHAINS for segment in stored_segments(self.store, chain)]

    @invariant()
    def the_days_behind_are_those_that_a_look_at_everything_finds(self) -> None:
        expected = set()
        for segment in self.segments():
            for day in segment.header.days:
                made = [read_manifest(self.store, table.name, day) for table in DAY_TABLES]
                ends = [m.ends.get(segment.header.chain, 0) if m else -1 for m in made]
                if min(ends) <= segment.header.start or len({str(m and sorted(m.ends.items())) for m in made}) > 1:
                    expected.add(day)
        assert stale_days(self.store) == sorted(expected)


TestCatalog = CatalogMachine.TestCase
TestCatalog.settings = settings(max_examples=examples(25), stateful_step_count=15)
TestCatalog.pytestmark = [pytest.mark.slow]
