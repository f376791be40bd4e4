"""Bundles never change what readers see, whichever process dies, sleeps, repairs or damages something at any step."""

import os
import signal
from collections.abc import Mapping
from typing import Any

import pytest
from confluent_kafka import Producer

from imgpipeline.contracts.keys import BUNDLES, ChainId
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.quality.audit import audit
from imgpipeline.ledger.bundles.making import find_ranges, make_bundle
from imgpipeline.ledger.bundles.reading import read_chain
from imgpipeline.ledger.days import read_day
from imgpipeline.ledger.reading import find_end, list_chains
from imgpipeline.ledger.repair.repair_list import list_repairs
from imgpipeline.stream.log import read_log
from imgpipeline_tests.detect.conftest import START, LaneUnderTest
from imgpipeline_tests.faults.child_runs import child_run
from imgpipeline_tests.faults.damages import DAMAGES, drop_records, each_damage, hurt, hurt_object, kept, keys, repair
from imgpipeline_tests.faults.invariant import check, read_ledger
from imgpipeline_tests.faults.test_mended_ledger import REPAIR

pytestmark = pytest.mark.slow

BUNDLE = """
from imgpipeline.ledger.reading import list_chains
from imgpipeline.ledger.bundles.making import find_ranges, make_bundle
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings

store = open_store(load_settings())
for chain in list_chains(store):
    for found in find_ranges(store, chain, fewest=1):
        print(make_bundle(store, found).problem)
"""
FOLLOW_AND_TELL = """
from imgpipeline.detect.run import follow_lane
from imgpipeline.settings import load_settings
from imgpipeline.stream.lanes import Lane

told = []
follow_lane(load_settings(), Lane(0, 1), run_id="sleeper", report=lambda report: told.append(report.frames))
print("reported", max(told), "frames")
"""
FIRST = 9_992
"""Where the log begins: a few frames reach beyond the first range of offsets."""


@pytest.fixture
def filled(lane: LaneUnderTest) -> LaneUnderTest:
    """A log whose first range of 10,000 offsets is complete, with eighteen frames over its border."""
    own = lane.with_settings(segment_max_records=3, commit_interval_s=60.0)
    producer = Producer({"bootstrap.servers": own.settings.kafka_bootstrap_servers})
    for _ in range(FIRST):  # by librdkafka, to which ten thousand records are nothing
        producer.produce(own.settings.kafka_topic, b"{}")
    assert producer.flush(60) == 0
    drop_records(own, FIRST)
    own.announce(18)
    return own


@pytest.fixture
def complete(filled: LaneUnderTest) -> LaneUnderTest:
    """The same, followed to its end; nothing is bundled yet."""
    filled.follow()
    assert [start_of(key) for key in keys(filled)] == [0, *range(FIRST, FIRST + 18, 3)]
    return filled


@pytest.fixture
def bundled(complete: LaneUnderTest) -> LaneUnderTest:
    """The same, with a bundle of the first range."""
    assert bundle(complete) == [None]
    return complete


def start_of(key: str) -> int:
    return int(key[-30:-10])


def chain_of(lane: LaneUnderTest) -> ChainId:
    [chain] = list_chains(lane.store)
    return chain


def bundle(lane: LaneUnderTest) -> list[str | None]:
    found = find_ranges(lane.store, chain_of(lane), fewest=1)
    return [make_bundle(lane.store, wanted).problem for wanted in found]


def bundles(lane: LaneUnderTest) -> dict[str, bytes]:
    return {info.key: lane.store.get(info.key) for info in lane.store.list_objects(BUNDLES)}


def read(lane: LaneUnderTest) -> list[tuple[int, bytes]]:
    chain = chain_of(lane)
    ends = {chain: find_end(lane.store, chain).offset}
    found = [*read_day(lane.store, START.date(), ends), *read_chain(lane.store, chain, 0, ends[chain])]
    return [(segment.header.start, segment.body) for segment in found]


def frames_of(lane: LaneUnderTest, **options: Any) -> list[int]:
    return [frame["source_kafka_offset"] for frame in check(lane.settings, **options).frames]


@pytest.mark.fault(47)
@pytest.mark.parametrize("step", ["bundle read", "bundle put", "bundle put done"], ids=["reading", "before", "after"])
def test_fault_47_a_bundler_that_is_killed_leaves_one_bundle_or_none(complete, step):
    before = read(complete)
    with child_run(complete, f"{step}=kill", program=BUNDLE) as child:
        assert child.wait()[0] == -signal.SIGKILL
    assert len(bundles(complete)) == (step == "bundle put done")
    assert read(complete) == before
    assert bundle(complete) == ([] if step == "bundle put done" else [None])
    assert len(bundles(complete)) == 1
    assert read(complete) == before
    check(complete.settings)


@pytest.mark.fault(47)
def test_fault_47_of_two_bundlers_one_puts_the_bundle_and_both_have_the_same(complete):
    before = read(complete)
    with child_run(complete, "bundle put=stop", program=BUNDLE) as child:
        child.wait_until_stopped()
        assert bundle(complete) == [None]
        made = bundles(complete)
        os.kill(child.process.pid, signal.SIGCONT)
        assert child.wait() == (0, "None")
    assert bundles(complete) == made
    assert read(complete) == before
    check(complete.settings)


@pytest.mark.fault(47)
@pytest.mark.parametrize("step", ["bundle read", "bundle put"], ids=["before it has read", "after it has read"])
def test_fault_47_a_bundler_that_sleeps_through_a_repair_brings_no_old_outcome_back(complete, step):
    with child_run(complete, f"{step}=stop", program=BUNDLE) as child:
        child.wait_until_stopped()
        hurt(complete, 2)
        drop_records(complete, FIRST + 18)
        assert [step.source for step in repair(complete).steps] == ["gap"]
        after = read(complete)
        os.kill(child.process.pid, signal.SIGCONT)
        assert child.wait() == (0, "None")
    assert len(bundles(complete)) == 1
    assert read(complete) == after
    held = check(complete.settings)
    assert held.gap_reasons["damaged"] == 3
    assert bundle(complete) == [None]
    assert len(bundles(complete)) == 1
    assert read(complete) == after
    check(complete.settings)


@pytest.mark.fault(47)
@pytest.mark.parametrize("with_bundle", [True, False], ids=["restored", "mended"])
@pytest.mark.parametrize("step", ["restore put", "restore put done", "mend mark", "mend put", "mend put done"])
def test_fault_47_a_repair_under_a_bundle_that_is_killed_is_finished_by_the_next(bundled, step, with_bundle):
    before = read(bundled)
    if not with_bundle:
        for key in bundles(bundled):
            bundled.store.put(key, b"")
    hurt(bundled, 2)
    with child_run(bundled, f"{step}=kill", program=REPAIR) as child:
        child.wait()
    assert bundle(bundled) in ([], [None]) or not with_bundle
    repair(bundled)
    bundle(bundled)
    assert [start for start, _ in read(bundled)] == [start for start, _ in before]
    assert len(frames_of(bundled)) == 18


@pytest.mark.fault(48)
def test_fault_48_a_run_that_wakes_in_a_bundled_range_loses_and_reports_nothing(filled):
    with child_run(filled, "segment put:2=stop", program=FOLLOW_AND_TELL) as sleeper:
        sleeper.wait_until_stopped()
        filled.follow()
        assert bundle(filled) == [None]
        held, made, before = read_ledger(filled.store), bundles(filled), read(filled)
        os.kill(sleeper.process.pid, signal.SIGCONT)
        status, said = sleeper.wait()
    assert (status, said) == (0, "reported 0 frames")
    assert (bundles(filled), read(filled)) == (made, before)
    assert frames_of(filled, before=held) == [*range(FIRST, FIRST + 18)]


@pytest.mark.fault(49)
@each_damage
def test_fault_49_a_damaged_bundle_costs_requests_and_is_made_again(bundled, damage):
    before, made = read(bundled), bundles(bundled)
    [key] = made
    hurt_object(bundled, key, damage)
    assert read(bundled) == before
    assert bundles(bundled) == {}
    assert bundle(bundled) == [None]
    assert (bundles(bundled), read(bundled)) == (made, before)
    check(bundled.settings)


@pytest.mark.fault(49)
@each_damage
def test_fault_49_a_damaged_segment_is_restored_from_its_bundle_where_kafka_has_nothing(bundled, damage):
    whole = segments_of(bundled)
    before = read(bundled)
    drop_records(bundled, FIRST + 18)
    hurt(bundled, 0, damage)
    hurt(bundled, 2, damage)
    assert read(bundled) == before
    assert [step.source for step in repair(bundled, dry_run=True).steps] == ["bundle", "bundle"]
    assert segments_of(bundled) != whole

    report = repair(bundled)

    assert [step.source for step in report.steps] == ["bundle", "bundle"]
    assert segments_of(bundled) == whole
    assert (len(kept(bundled)), bundle(bundled)) == (0 if damage is DAMAGES["removed"] else 2, [])
    assert repair(bundled).steps == ()
    assert len(frames_of(bundled)) == 18


def segments_of(lane: LaneUnderTest) -> Mapping[str, bytes]:
    return {key: lane.store.get(key) for key in keys(lane)}


@pytest.mark.fault(49)
@pytest.mark.parametrize("in_kafka", [True, False], ids=["in kafka", "gone"])
def test_fault_49_without_an_intact_bundle_a_segment_is_repaired_from_kafka_or_becomes_a_gap(bundled, in_kafka):
    for key in bundles(bundled):
        bundled.store.put(key, b"")
    hurt(bundled, 2)
    if not in_kafka:
        drop_records(bundled, FIRST + 18)
    [step] = repair(bundled).steps
    assert (step.source, step.end - step.start) == ("kafka" if in_kafka else "gap", 3)
    after = read(bundled)
    assert bundle(bundled) == [None]
    assert read(bundled) == after
    assert len(frames_of(bundled)) == (18 if in_kafka else 15)


@pytest.mark.fault(49)
def test_fault_49_a_bundle_of_other_outcomes_than_the_segments_is_found_by_the_full_audit_and_removed(complete):
    """The last segments of a chain were removed after they were bundled, and the next run has made them again."""
    assert bundle(complete) == [None]
    for key in [key for key in keys(complete) if start_of(key) > FIRST + 2]:
        complete.store.delete(key)
    complete.follow()
    report = audit(complete.store, lambda: read_log(complete.settings), full=True, now=utc_now())
    [problem] = [problem for problem in report.problems if "bundle" in problem]
    assert "imgpipeline ledger repair" in problem
    [step] = repair(complete).steps
    assert (step.source, bundles(complete)) == ("removed", {})
    assert {repair.days for repair in list_repairs(complete.store)} == {(START.date(),)}, "its tables are stale"
    assert bundle(complete) == [None]
    assert frames_of(complete) == [*range(FIRST, FIRST + 18)]
