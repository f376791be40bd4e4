"""A repair that is watched, killed, answered badly or raced by a sleeping writer leaves each offset one outcome."""

from dataclasses import replace

import pytest

from imgpipeline.contracts.keys import audit_state_key, parse_segment_key
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import find_end, list_chains
from imgpipeline.ledger.segment import Fingerprint
from imgpipeline.stream.fetch import read_record
from imgpipeline_tests.detect.conftest import START, LaneUnderTest
from imgpipeline_tests.faults.child_runs import child_run
from imgpipeline_tests.faults.damages import drop_records, hurt, repair
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.ledger.samples import PROVENANCE, frames
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy, Fate

pytestmark = pytest.mark.fault(40)

REPAIR = """
from imgpipeline.detect.ledger_repair import repair_ledger
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline.contracts.times import utc_now

settings = load_settings()
repair_ledger(settings, open_store(settings), clock=utc_now)
"""


def test_fault_40_a_dry_run_changes_nothing(followed):
    hurt(followed, 1)
    hurt(followed, 3)
    before = {info.key: info.e_tag for info in followed.store.list_objects()}
    assert [(s.start, s.end, s.source) for s in repair(followed, dry_run=True).steps] == [
        (3, 6, "kafka"),
        (9, 12, "kafka"),
    ]
    assert {info.key: info.e_tag for info in followed.store.list_objects()} == before


@pytest.mark.slow
def test_fault_40_only_the_named_segment_is_repaired(followed):
    key, _ = hurt(followed, 0)
    other, _ = hurt(followed, 2)
    report = repair(followed, key=other)
    assert ([step.key for step in report.steps], report.days) == ([other], (START.date(),))
    report = repair(followed, key=key)
    assert ([step.key for step in report.steps], report.days) == ([key], (START.date(),))
    with pytest.raises(ConfigurationError, match="is not the key of a segment"):
        repair(followed, key="images/a.jpg")
    check(followed.settings)


@pytest.mark.parametrize(
    "wakes", ["second", *(pytest.param(w, marks=pytest.mark.slow) for w in ("before", "lid", "after"))]
)
def test_fault_40_a_paused_writer_that_knows_the_lost_end_can_neither_duplicate_nor_lose(followed, monkeypatch, wakes):
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
    monkeypatch.setattr("imgpipeline.ledger.repair.mending.reach", reach)
    repair(followed)
    wake()
    followed.follow()

    assert won == [wakes != "after"]
    held = read_all(followed)
    assert held == list(range(16))


def append_frames(lane: LaneUnderTest, writer: ChainWriter, start: int, end: int) -> bool:
    """Appends frames as a run would that has fetched their records."""
    record = read_record(lane.settings, lane.partition(), end - 1)
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
def test_fault_40_a_repair_that_is_killed_anywhere_is_finished_by_the_next(followed, plan, number):
    hurt(followed, 0)
    hurt(followed, number)
    followed.announce(2, first=12)
    with child_run(followed, f"{plan}=kill", program=REPAIR) as child:
        child.wait()
    repair(followed)
    followed.follow()
    assert len(check(followed.settings).frames) == 14


@pytest.mark.slow
def test_fault_40_the_days_of_a_repair_that_died_after_its_last_put_are_due(followed, monkeypatch):
    hurt(followed, 1)
    drop_records(followed, 12)

    class DiedError(Exception):
        pass

    def die(*_: object) -> None:
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr("imgpipeline.ledger.repair.mending.close_repair", die)
        with pytest.raises(DiedError):
            repair(followed)
    assert followed.store.head(audit_state_key()) is None
    built = rebuild_day(followed.store, START.date(), now=utc_now())
    assert (built.skipped, built.of("frames").rows) == (False, 9)
    assert repair(followed).days == (START.date(),)
    check(followed.settings)


@pytest.mark.fault(35)
@pytest.mark.slow
@pytest.mark.parametrize("fate", [Fate.LOSE_ANSWER, Fate.ANSWER_503_AFTER])
def test_fault_35_a_repair_whose_answers_are_lost_recognises_its_own_segments(followed, s3, fate):
    hurt(followed, 1)
    hurt(followed, 3)

    def decide(method: str, path: str, before: int) -> Fate:
        return fate if method == "PUT" and path.endswith(".zst") and before == 0 else Fate.FORWARD

    with AnswerLosingProxy(s3.port, decide) as proxy:
        repair(followed.with_settings(s3_endpoint=proxy.endpoint))
    assert len(check(followed.settings).frames) == 12
