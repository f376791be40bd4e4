"""A build that adds segments to stored tables gives the rows of a full build, and reads only these segments."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imgpipeline.contracts.keys import ChainId, day_table_key, segment_key
from imgpipeline.contracts.outcomes import Gap, GapReason, Outcome
from imgpipeline.contracts.times import day_of
from imgpipeline.errors import LedgerError, TransientError
from imgpipeline.lake.days import day_tables
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.tables import DAY_TABLES, FRAMES
from imgpipeline.lake.storage.manifest import Manifest, read_manifest
from imgpipeline.ledger.reading import list_segments, read_segments
from imgpipeline.ledger.repair.repair_list import close_repair, last_repair_of, list_repairs, open_repair, still_open
from imgpipeline.ledger.segment import Segment, describe, encode_segment
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.contracts.strategies import frames as any_frame
from imgpipeline_tests.examples import examples
from imgpipeline_tests.lake.oracle import rows
from imgpipeline_tests.lake.samples import LABELS, again, chosen_frames, gated, seen
from imgpipeline_tests.ledger.faulty_store import CrashError, FaultyStore
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    NOON,
    PROVENANCE,
    append,
    dead_letter,
    notice,
    write_chain,
    writer,
)
from imgpipeline_tests.objectstore.noting import NotingStore

LATER = NOON + timedelta(hours=1)
DAYS = (DAY, DAY + timedelta(days=1))
TABLES = tuple(table.name for table in DAY_TABLES)
CHAINS = tuple(ChainId(topic, topic_id, partition) for topic, topic_id in (("cars", "id-1"), ("frames", "id-2"),
               ("frames", "id-2~2")) for partition in (0, 1))  # fmt: skip


def manifests(store: ObjectStore, day: date) -> dict[str, Manifest]:
    found = {table: read_manifest(store, table, day) for table in TABLES}
    return {table: manifest for table, manifest in found.items() if manifest is not None}


def contents(store: ObjectStore, day: date) -> dict[str, tuple[int, int, str]]:
    """Return what a build of a day has stored: rows, duplicates, and the hash of the rows."""
    return {name: (m.rows, m.duplicates, m.content) for name, m in manifests(store, day).items()}


def full_build(store: ObjectStore, day: date) -> dict[str, tuple[int, int, str]]:
    """Return what one full build up to the ends of a day's tables gives, made in a copy of the ledger."""
    copy = open_memory_store()
    for info in list(store.list_objects()):
        if info.key.startswith("metadata"):
            copy.put(info.key, store.get(info.key))
    rebuild_day(copy, day, now=NOON, ends=manifests(store, day)[TABLES[0]].ends)
    return contents(copy, day)


@pytest.mark.fault(50)
def test_a_build_after_one_more_segment_reads_only_that_segment():
    store = NotingStore()
    chain = write_chain(store, *([seen(2 * n), seen(2 * n + 1)] for n in range(30)))
    assert not rebuild_day(store, DAY, now=NOON).is_extended
    append(chain, [seen(60), dead_letter(61)])
    store.fetched.clear()

    build = rebuild_day(store, DAY, now=LATER)

    newest = segment_key(CHAIN, 60)
    assert build.is_extended
    assert [build.of(table).rows for table in ("frames", "detections", "dead_letters")] == [61, 61, 1]
    assert set(store.segments) == {newest}
    assert contents(store, DAY) == full_build(store, DAY)


@pytest.mark.medium
@pytest.mark.fault(50)
@pytest.mark.parametrize(
    "newer",
    [
        pytest.param([again(2, 0, ["dog", "car"])], id="a-frame-announced-again-loses"),
        pytest.param([again(2, 0), again(3, 0)], id="twice-again"),
        pytest.param([seen(2)], id="a-late-frame-between-older-ones"),
        pytest.param([dead_letter(2), Gap(3, 9, GapReason.EXPIRED)], id="no-frame-at-all"),
    ],
)
def test_added_rows_are_those_of_a_full_build(memory, newer):
    chain = write_chain(memory, [seen(0, ["car"]), replace(seen(500), offset=1)])
    rebuild_day(memory, DAY, now=NOON)
    append(chain, newer)

    assert rebuild_day(memory, DAY, now=LATER).is_extended
    assert contents(memory, DAY) == full_build(memory, DAY)


def test_a_frame_that_was_gated_first_gets_the_detections_of_the_one_that_was_processed(memory):
    chain = write_chain(memory, [gated(0)])
    rebuild_day(memory, DAY, now=NOON)
    append(chain, [again(1, 0, ["car", "dog"])])

    build = rebuild_day(memory, DAY, now=LATER)

    assert (build.is_extended, build.of("frames").rows, build.of("detections").rows) == (True, 1, 2)
    assert build.of("frames").duplicates == 1
    assert contents(memory, DAY) == full_build(memory, DAY)


def test_a_forced_build_reads_the_whole_day_again():
    store = NotingStore()
    chain = write_chain(store, [seen(0)], [seen(1)])
    rebuild_day(store, DAY, now=NOON)
    append(chain, [seen(2)])
    rebuild_day(store, DAY, now=NOON)
    store.fetched.clear()

    build = rebuild_day(store, DAY, force=True, now=LATER)

    assert not build.is_extended
    assert {segment_key(CHAIN, n) for n in range(3)} <= set(store.segments)


@pytest.mark.fault(50)
def test_a_day_with_an_unfinished_repair_is_read_whole(memory):
    chain = write_chain(memory, [seen(0)])
    rebuild_day(memory, DAY, now=NOON)
    open_repair(memory, CHAIN, 0, 1, [DAY])
    mend(memory, next(read_segments(memory, CHAIN, [0])))
    append(chain, [seen(1)])

    assert not rebuild_day(memory, DAY, now=LATER).is_extended
    assert contents(memory, DAY) == full_build(memory, DAY)


def test_damage_before_the_tables_ends_stops_a_build_of_the_whole_day(memory):
    made = write_chain(memory, [seen(0)], [seen(1), seen(2)])
    rebuild_day(memory, DAY, now=NOON)
    append(made, [seen(3)])
    memory.put(segment_key(CHAIN, 1), b"damaged")
    assert rebuild_day(memory, DAY, now=LATER).is_extended
    with pytest.raises(LedgerError, match=segment_key(CHAIN, 1)):
        rebuild_day(memory, DAY, now=LATER, force=True)


@pytest.mark.medium
def test_sealing_reads_the_day_of_extended_tables_whole_once(memory):
    chain = write_chain(memory, [seen(0)])
    rebuild_day(memory, DAY, now=NOON)
    append(chain, [seen(1)])
    extended = rebuild_day(memory, DAY, now=NOON)
    append(chain, [seen(2)])

    sealed = rebuild_day(memory, DAY, now=LATER, seal=True)

    assert (extended.is_extended, sealed.is_extended, sealed.of("frames").rows, sealed.corrected) == (
        True,
        False,
        3,
        (),
    )
    assert contents(memory, DAY) == full_build(memory, DAY)
    assert rebuild_day(memory, DAY, now=LATER, seal=True).skipped


@pytest.mark.medium
@pytest.mark.fault(50)
def test_sealing_reports_and_replaces_extended_tables_with_wrong_rows(memory):
    other = open_memory_store()
    for store, labels in ((memory, ["car"]), (other, ["dog"])):
        chain = write_chain(store, [seen(0, labels)])
        rebuild_day(store, DAY, now=NOON)
        append(chain, [seen(1, labels)])
        assert rebuild_day(store, DAY, now=NOON).is_extended
    memory.put(day_table_key("detections", DAY), other.get(day_table_key("detections", DAY)))

    sealed = rebuild_day(memory, DAY, now=LATER, seal=True)

    assert sealed.corrected == ("detections",)
    assert contents(memory, DAY) == full_build(memory, DAY)


def mend(store: ObjectStore, segment: Segment) -> None:
    """Put other outcomes of the same offsets over a segment, as a repair does."""
    header = segment.header
    outcomes: list[Outcome] = [Gap(header.start, header.end, GapReason.DAMAGED)]
    made = describe(header.chain, outcomes, provenance=PROVENANCE, writer_id=f"mended-{header.writer_id}",
                    fingerprint=header.fingerprint, created_at=NOON)  # fmt: skip
    store.put(segment_key(header.chain, header.start), encode_segment(made, outcomes))


table_puts = st.sampled_from(["none", "crash before", "crash after", "answer lost", "overtaken"])


class GrowingDays(RuleBasedStateMachine):
    """Chains of several topics grow, close, are renewed and repaired; builds die, race, and come with older ends."""

    def __init__(self) -> None:
        super().__init__()
        self.store = FaultyStore()
        self.number = 0

    @rule(data=st.data(), chain=st.sampled_from(CHAINS), count=st.integers(1, 4))
    def append(self, data: st.DataObject, chain: ChainId, count: int) -> None:
        to = writer(self.store, chain)
        outcomes = [self.outcome(data.draw(st.integers(0, 40)), chain, to.end.offset + n) for n in range(count)]
        assert append(to, outcomes)

    def outcome(self, content: int, chain: ChainId, offset: int) -> Outcome:
        """Return what becomes of a record: few names, so that many frames are announced again, late and elsewhere."""
        day = DAYS[content % 2]
        if content % 13 == 0:
            return dead_letter(offset, day)
        if content % 11 == 0:
            return Gap(offset, offset + 1, GapReason.MARKER)
        if content % 17 == 0:
            return notice(offset, day, minute=content % 60)
        self.number += 1
        labels = [LABELS[(content + n) % 3] for n in range(content % 3)]
        frame = (
            seen(content % 7 * 100 + content % 3, labels, day) if content % 5 else gated(content % 7, source="cam-2")
        )
        return replace(frame, topic=chain.topic, partition=chain.partition, offset=offset)

    @rule(data=st.data(), day=st.sampled_from(DAYS), faults=st.lists(table_puts, max_size=3), force=st.booleans())
    def build(self, data: st.DataObject, day: date, faults: list[str], force: bool) -> None:
        self.store.faults, self.store.in_between = {"table": faults}, lambda: rebuild_day(self.store, day, now=LATER)
        try:
            rebuild_day(self.store, day, now=NOON, force=force and data.draw(st.booleans()))
        except (CrashError, TransientError):
            pass  # the process died, or gave up
        finally:
            self.store.faults, self.store.in_between = {}, None

    @rule(data=st.data(), finished=st.booleans())
    def repair(self, data: st.DataObject, finished: bool) -> None:
        chain = data.draw(st.sampled_from(CHAINS))
        starts = list_segments(self.store, chain, 0, 10**6)
        if starts:
            segment = next(read_segments(self.store, chain, [data.draw(st.sampled_from(starts))]))
            open_repair(self.store, chain, segment.header.start, segment.header.end, segment.header.days)
            mend(self.store, segment)
        if finished:
            self.finish_repairs()

    @precondition(lambda self: still_open(list_repairs(self.store)))
    @rule()
    def finish_repairs(self) -> None:
        for opened in still_open(list_repairs(self.store)):
            close_repair(self.store, opened)

    def waiting_days(self) -> set[date]:
        """The days whose tables may still be those from before a repair."""
        last = {day: last_repair_of(day, list_repairs(self.store)) for day in DAYS}
        return {day for day in DAYS if any(found.repair < last[day] for found in manifests(self.store, day).values())}

    @invariant()
    def tables_are_those_of_one_full_build(self) -> None:
        being_repaired = {day for opened in still_open(list_repairs(self.store)) for day in opened.days}
        for day in set(DAYS) - being_repaired - self.waiting_days():
            found = manifests(self.store, day)
            ends = [manifest.ends for manifest in found.values()]
            if len(found) == len(TABLES) and all(each == ends[0] for each in ends):
                assert contents(self.store, day) == full_build(self.store, day)

    def teardown(self) -> None:
        self.finish_repairs()
        for day in DAYS:
            if any(self.store.list_objects(f"metadata_days/day={day}")) or self.store.head(
                day_table_key("frames", day)
            ):
                rebuild_day(self.store, day, now=LATER)
        self.tables_are_those_of_one_full_build()


class TestGrowingDays(GrowingDays.TestCase):
    settings = settings(max_examples=examples(3), stateful_step_count=12)


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestGrowingDaysForLong(GrowingDays.TestCase):
    settings = settings(max_examples=examples(25), stateful_step_count=40)


def nested(levels: int) -> dict[str, object]:
    return {"in": nested(levels - 1)} if levels else {"end": "\u2028 ' \" \\ \n"}


def test_hostile_text_numbers_and_depth_round_trip(memory, tmp_path):
    attributes = {"🚗\n\"'\\": [10**40, -(2**63) - 1, 2**64 - 1, 1e300, 0.1, True, None], "deep": nested(30), "": {}}
    name = "caméra 'x'; DROP TABLE frames; -- \"\n\t🚦\x01\ufffe"
    hostile = replace(
        seen(0, [name]),
        source=name,
        source_image_path=name,
        gate_reason=name,
        attributes=attributes,
        frame_number=2**63 - 1,
        timestamp=datetime(2026, 1, 9, 23, 59, 59, 999999, tzinfo=UTC),
    )
    write_chain(memory, [hostile])
    rebuild_day(memory, DAY, now=NOON)
    columns = 'source, source_image_path, gate_reason, attributes, frame_number, "timestamp"'
    *texts, stored, number, timestamp = rows(memory, "frames", columns, tmp_path)[0]
    assert texts == [name, name, name]
    assert json.loads(stored) == attributes
    assert (number, timestamp) == (2**63 - 1, hostile.timestamp)
    assert rows(memory, "detections", "label", tmp_path) == [(name,)]


@pytest.mark.medium
def test_a_line_longer_than_duckdb_s_own_limit_is_read(memory, tmp_path):
    write_chain(memory, [seen(0, attributes={"long": "x" * (17 * 2**20)}), seen(1)])
    assert rebuild_day(memory, DAY, now=NOON).of("frames").rows == 2
    assert rows(memory, "frames", "max(len(attributes))", tmp_path)[0][0] > 17 * 2**20


@pytest.mark.slow
@settings(max_examples=examples(25))
@given(st.lists(any_frame, min_size=1, max_size=4))
def test_any_frame_reads_back_as_python_wrote_it(tmp_path_factory, made):
    store = open_memory_store()
    day = day_of(made[0].timestamp)
    same_day = [
        replace(f, offset=n, topic=CHAIN.topic, partition=0, timestamp=made[0].timestamp) for n, f in enumerate(made)
    ]
    write_chain(store, same_day)
    with pytest.MonkeyPatch.context() as patched:
        # A detector's boxes lie in their picture, which a build looks at; what JSON carries is more than that.
        patched.setattr(day_tables, "refuse_unsound", lambda *_: None)
        rebuild_day(store, day, now=NOON)
    chosen = chosen_frames(store, day)
    left_out = ("day", "detections", "timestamp", "processing_timestamp", "source_kafka_topic_id")
    names = [column.name for column in FRAMES.columns if column.name not in left_out]
    found = rows(store, "frames", ", ".join(names), tmp_path_factory.mktemp("rows"), day)
    assert len(found) == len(chosen)
    for row in found:
        values = dict(zip(names, row, strict=True))
        expected = chosen[values["frame_id"]].to_json()
        assert json.loads(values.pop("attributes")) == expected["attributes"]
        assert values == {name: expected.get(name) for name in values}
    columns = "frame_id, detection_number, label, class_id, confidence, x, y, width, height"
    assert sorted(rows(store, "detections", columns, tmp_path_factory.mktemp("rows"), day)) == sorted(
        (name, n, d.label, d.class_id, d.confidence, *(d.box_xywh or (None,) * 4))
        for name, each in chosen.items()
        for n, d in enumerate(each.detections)
    )
