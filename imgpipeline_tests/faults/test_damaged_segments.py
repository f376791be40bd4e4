"""A segment that is damaged or removed stops readers and runs by name, and `ledger repair` mends it, exactly once."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pytest
from kafka import TopicPartition

from imgpipeline.contracts.keys import DAMAGED, METADATA, audit_state_key, parse_segment_key, segment_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.detect.repair import repair_ledger
from imgpipeline.detect.repair_steps import RepairReport
from imgpipeline.errors import ConfigurationError, LedgerError
from imgpipeline.lake.day_tables import rebuild_day
from imgpipeline.lake.session import open_lake
from imgpipeline.ledger import ChainWriter, DayIndex, Fingerprint, find_end, list_chains, read_segment
from imgpipeline.ledger.mending import LID
from imgpipeline.ledger.segment import DamagedSegmentError, encode_segment
from imgpipeline.settings import utc_now
from imgpipeline.stream.connection import open_admin
from imgpipeline.stream.fetch import read_record
from imgpipeline_tests.detect.conftest import START, LaneUnderTest
from imgpipeline_tests.faults.child_runs import child_run
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.ledger.samples import PROVENANCE, frames
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy, Fate
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Server

pytestmark = pytest.mark.fault(40)

Damage = Callable[[bytes], bytes | None]
DAMAGES: dict[str, Damage] = {
    "emptied": lambda _: b"",
    "flipped": lambda data: data[:40] + bytes([data[40] ^ 4]) + data[41:],
    "cut": lambda data: data[: len(data) // 2],
    "removed": lambda _: None,
}
each_damage = pytest.mark.parametrize(
    "damage",
    [pytest.param(d, marks=pytest.mark.slow if name in ("emptied", "cut") else ()) for name, d in DAMAGES.items()],
    ids=DAMAGES.keys(),
)
REPAIR = """
from imgpipeline.detect.repair import repair_ledger
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings, utc_now

settings = load_settings()
repair_ledger(settings, open_store(settings), clock=utc_now)
"""


@pytest.fixture
def followed(lane: LaneUnderTest) -> LaneUnderTest:
    """Twelve frames in four segments of three, with the tables and the summary of their day."""
    own = lane.with_settings(segment_max_records=3, commit_interval_s=60.0)
    own.announce(12)
    own.follow()
    check(own.settings)
    assert len(keys(own)) == 4
    return own


def keys(lane: LaneUnderTest) -> list[str]:
    return sorted(info.key for info in lane.store.list_objects(METADATA))


def hurt(lane: LaneUnderTest, number: int, damage: Damage = DAMAGES["emptied"]) -> tuple[str, bytes | None]:
    """Damages a segment; returns its key and what is there now."""
    key = keys(lane)[number]
    bad = damage(lane.store.get(key))
    if bad is None:
        lane.store.delete(key)
    else:
        lane.store.put(key, bad)
    return key, bad


def repair(lane: LaneUnderTest, **options: object) -> RepairReport:
    return repair_ledger(lane.settings, lane.store, clock=utc_now, **options)  # type: ignore[arg-type]  # by name


def kept(lane: LaneUnderTest) -> list[bytes]:
    return [lane.store.get(info.key) for info in lane.store.list_objects(DAMAGED)]


def drop_records(lane: LaneUnderTest, before: int) -> None:
    with open_admin(lane.settings) as admin:
        admin.delete_records({TopicPartition(lane.settings.kafka_topic, 0): before})


@each_damage
def test_fault_40_a_broken_segment_stops_readers_by_name_and_is_mended_from_kafka(
    followed: LaneUnderTest, damage: Damage
) -> None:
    store = followed.store
    key, bad = hurt(followed, 1, damage)
    with pytest.raises(LedgerError, match=key if bad is not None else "starts at 3") as stopped:
        rebuild_day(store, START.date(), now=utc_now(), force=True)
    assert "imgpipeline ledger repair" in str(stopped.value)

    report = repair(followed)

    [step] = report.steps
    assert (step.key, step.start, step.end, step.source, step.frames) == (key, 3, 6, "kafka", 3)
    assert kept(followed) == ([] if bad is None else [bad])
    assert report.days == (START.date(),)
    held = check(followed.settings)
    assert [frame["source_kafka_offset"] for frame in held.frames] == list(range(12))
    assert repair(followed).steps == ()


@pytest.mark.parametrize(
    "damage", [DAMAGES["emptied"], pytest.param(DAMAGES["flipped"], marks=pytest.mark.slow)], ids=["emptied", "flipped"]
)
def test_fault_40_a_damaged_last_segment_stops_runs_by_name_and_they_go_on_after_the_repair(
    followed: LaneUnderTest, damage: Damage
) -> None:
    key, bad = hurt(followed, 3, damage)
    followed.announce(2, first=12)
    with pytest.raises(DamagedSegmentError, match=key):
        followed.follow()

    report = repair(followed)

    assert [(step.start, step.end, step.frames) for step in report.steps] == [(9, 14, 5)]
    assert kept(followed) == [bad]
    assert LID not in [followed.store.get(key) for key in keys(followed)]
    followed.announce(3, first=14)
    followed.follow()
    assert len(check(followed.settings).frames) == 17


@pytest.mark.slow
def test_fault_40_the_last_of_many_that_was_removed_is_made_again_by_the_next_run(followed: LaneUnderTest) -> None:
    hurt(followed, 3, DAMAGES["removed"])
    assert repair(followed).steps == ()
    followed.follow()
    rebuild_day(followed.store, START.date(), now=utc_now(), force=True)
    check(followed.settings)


@pytest.mark.slow
def test_fault_40_neighbours_the_first_and_all_at_once_are_mended(followed: LaneUnderTest) -> None:
    hurt(followed, 0)
    hurt(followed, 1, DAMAGES["cut"])
    hurt(followed, 2, DAMAGES["removed"])
    assert [(s.start, s.end) for s in repair(followed).steps] == [(0, 3), (3, 9)]
    check(followed.settings)
    for number in range(len(keys(followed))):
        hurt(followed, number)
    repair(followed)
    assert len(check(followed.settings).frames) == 12


@pytest.mark.parametrize(
    ("before", "source", "gaps"), [pytest.param(12, "gap", 3, marks=pytest.mark.slow), (5, "kafka and gap", 2)]
)
def test_fault_40_what_kafka_no_longer_has_becomes_a_gap(
    followed: LaneUnderTest, before: int, source: str, gaps: int
) -> None:
    hurt(followed, 1)
    drop_records(followed, before)
    assert [step.source for step in repair(followed, dry_run=True).steps] == [source]
    [step] = repair(followed).steps
    assert (step.source, step.gaps) == (source, gaps)
    assert check(followed.settings).gap_reasons == {"damaged": gaps}


@pytest.mark.slow
def test_fault_40_a_tail_that_kafka_no_longer_has_becomes_a_gap_up_to_the_log_s_end(followed: LaneUnderTest) -> None:
    hurt(followed, 3)
    drop_records(followed, 12)
    repair(followed)
    assert check(followed.settings).gap_reasons == {"damaged": 3}


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3])
def test_fault_40_a_chain_whose_topic_was_made_anew_is_mended_by_gaps(
    followed: LaneUnderTest, kafka: KafkaBroker, number: int
) -> None:
    hurt(followed, number)
    with open_admin(followed.settings) as admin:
        admin.delete_topics([followed.settings.kafka_topic])
    kafka.create_topic(followed.settings.kafka_topic)
    followed.announce(4)
    followed.follow()
    repair(followed)
    held = check(followed.settings)
    assert held.gap_reasons == {"damaged": 3}
    assert sorted(held.ends.values()) == [4, 12]


@pytest.mark.slow
def test_fault_40_a_log_that_is_not_the_one_that_was_read_is_not_mended_from(followed: LaneUnderTest) -> None:
    """The neighbours' fingerprints tell: here they are made to, by a segment that says another record was there."""
    store, key = followed.store, keys(followed)[0]
    segment = read_segment(store, key)
    mark = segment.header.fingerprint
    assert mark is not None
    outcomes = segment.outcomes()
    other = replace(segment.header, fingerprint=replace(mark, sha256="0" * 64))
    store.put(key, encode_segment(other, outcomes))
    hurt(followed, 1)
    with pytest.raises(LedgerError, match=r"not the one that its chain was made of.*--without-kafka"):
        repair(followed)
    assert repair(followed, without_kafka=True).steps[0].source == "gap"
    assert check(followed.settings).gap_reasons == {"damaged": 3}


def test_fault_40_a_dry_run_changes_nothing(followed: LaneUnderTest) -> None:
    hurt(followed, 1)
    hurt(followed, 3)
    before = {info.key: info.e_tag for info in followed.store.list_objects()}
    assert [(s.start, s.end, s.source) for s in repair(followed, dry_run=True).steps] == [
        (3, 6, "kafka"),
        (9, 12, "kafka"),
    ]
    assert {info.key: info.e_tag for info in followed.store.list_objects()} == before


@pytest.mark.slow
def test_fault_40_only_the_segment_that_is_named_is_mended(followed: LaneUnderTest) -> None:
    key, _ = hurt(followed, 0)
    other, _ = hurt(followed, 2)
    report = repair(followed, key=other)
    assert ([step.key for step in report.steps], report.days) == ([other], ())
    assert key in str(report.waiting)
    report = repair(followed, key=key)
    assert ([step.key for step in report.steps], report.days) == ([key], (START.date(),))
    with pytest.raises(ConfigurationError, match="no key of a segment"):
        repair(followed, key="images/a.jpg")
    check(followed.settings)


def test_fault_40_a_segment_of_a_newer_format_is_not_taken_for_damage(
    followed: LaneUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys(followed)[1]
    segment = read_segment(followed.store, key)
    with monkeypatch.context() as patched:
        patched.setattr("imgpipeline.ledger.segment.FORMAT_VERSION", 99)
        data = encode_segment(segment.header, segment.outcomes())
    followed.store.put(key, data)
    with pytest.raises(LedgerError, match="format version 99"):
        repair(followed)
    assert followed.store.get(key) == data


@pytest.mark.parametrize(
    "wakes", ["second", *(pytest.param(w, marks=pytest.mark.slow) for w in ("before", "lid", "after"))]
)
def test_fault_40_a_sleeping_writer_that_knows_the_lost_end_can_neither_double_nor_lose(
    followed: LaneUnderTest, monkeypatch: pytest.MonkeyPatch, wakes: str
) -> None:
    """It has seen the end at 12 before the last segment was damaged; meanwhile four more frames were announced."""
    store = followed.store
    [chain] = list_chains(store)
    sleeper = ChainWriter(store, find_end(store, chain), DayIndex(store))
    assert sleeper.end.offset == 12
    hurt(followed, 3)
    followed.announce(4, first=12)
    won: list[bool] = []

    def wake() -> None:
        if not won:
            won.append(append_frames(followed, sleeper, 12, 14))

    def reach(step: str, key: str) -> None:
        parsed = parse_segment_key(key)
        start = parsed[1] if parsed else None
        if (wakes, step, start) in (("lid", "mend put", 9), ("second", "mend put done", 11)):
            wake()

    if wakes == "before":
        wake()
    monkeypatch.setattr("imgpipeline.ledger.mending.reach", reach)
    repair(followed)
    wake()
    followed.follow()

    assert won == [wakes != "after"]
    held = read_all(followed)
    assert held == list(range(16))


def append_frames(lane: LaneUnderTest, writer: ChainWriter, start: int, end: int) -> bool:
    """Appends frames as a run would that has fetched their records."""
    record = read_record(lane.settings, 0, end - 1)
    assert record is not None
    return writer.append(
        [replace(o, topic=lane.settings.kafka_topic) for o in frames(start, end) if isinstance(o, Frame)],
        provenance=PROVENANCE,
        writer_id=f"sleeper-{start}",
        fingerprint=Fingerprint.of(record),
        created_at=utc_now(),
    )


def read_all(lane: LaneUnderTest) -> list[int]:
    return [frame["source_kafka_offset"] for frame in check(lane.settings).frames]


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan", ["mend put:1", "mend put done:1", "mend put:2", "mend put done:2", "mend put done:3", "mend put done:5"]
)
@pytest.mark.parametrize("number", [1, 3])
def test_fault_40_a_repair_that_is_killed_anywhere_is_finished_by_the_next(
    followed: LaneUnderTest, plan: str, number: int
) -> None:
    hurt(followed, 0)
    hurt(followed, number)
    followed.announce(2, first=12)
    with child_run(followed, f"{plan}=kill", program=REPAIR) as child:
        child.wait()
    repair(followed)
    followed.follow()
    assert len(check(followed.settings).frames) == 14


@pytest.mark.slow
def test_fault_40_days_that_a_repair_left_to_be_built_are_built_by_the_next(
    followed: LaneUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurt(followed, 1)

    class DiedError(Exception):
        pass

    def die(*_: object, **__: object) -> list[date]:
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr("imgpipeline.detect.repair.build_noted_days", die)
        with pytest.raises(DiedError):
            repair(followed)
    assert repair(followed).days == (START.date(),)
    assert followed.store.head(audit_state_key()) is None
    check(followed.settings)


@pytest.mark.slow
@pytest.mark.parametrize("fate", [Fate.LOSE_ANSWER, Fate.ANSWER_503_AFTER])
def test_fault_35_a_repair_whose_answers_are_lost_recognises_its_own_segments(
    followed: LaneUnderTest, s3: S3Server, fate: Fate
) -> None:
    hurt(followed, 1)
    hurt(followed, 3)

    def decide(method: str, path: str, before: int) -> Fate:
        return fate if method == "PUT" and path.endswith(".zst") and before == 0 else Fate.FORWARD

    with AnswerLosingProxy(s3.port, decide) as proxy:
        repair(followed.with_settings(s3_endpoint=proxy.endpoint))
    assert len(check(followed.settings).frames) == 12


def test_fault_40_queries_stop_by_name_where_the_damage_is_behind_the_tables(followed: LaneUnderTest) -> None:
    followed.announce(3, first=12)
    followed.follow()
    [chain] = list_chains(followed.store)
    followed.store.put(segment_key(chain, 12), json.dumps({"no": "segment"}).encode())
    with pytest.raises(LedgerError, match=segment_key(chain, 12)), open_lake(followed.store) as session:
        session.query("SELECT count(*) FROM frames")
    repair(followed)
    assert len(check(followed.settings).frames) == 15
