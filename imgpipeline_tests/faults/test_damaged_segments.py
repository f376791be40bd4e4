"""A segment that is damaged or removed stops readers and runs by name, and `ledger repair` mends it, exactly once."""

import json
from dataclasses import replace

import pytest

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, LedgerError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.reading import list_chains, read_segment
from imgpipeline.ledger.repair.mending import LID
from imgpipeline.ledger.segment import DamagedSegmentError, encode_segment
from imgpipeline.stream.connection import open_admin
from imgpipeline_tests.detect.conftest import START
from imgpipeline_tests.faults.damages import DAMAGES, drop_records, each_damage, hurt, kept, keys, repair
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.ledger.samples import frames, write_chain

pytestmark = [pytest.mark.fault(40), pytest.mark.slow]


@each_damage
def test_fault_40_a_broken_segment_stops_readers_by_name_and_is_repaired_from_kafka(followed, damage):
    store = followed.store
    key, bad = hurt(followed, 1, damage)
    with pytest.raises(LedgerError, match=key if bad is not None else "starts at 3") as stopped:
        rebuild_day(store, START.date(), now=utc_now(), force=True)
    assert "imgpipeline ledger repair" in str(stopped.value)

    report = repair(followed)

    [step] = report.steps
    assert (step.key, step.start, step.end, step.source) == (key, 3, 6, "kafka")
    assert kept(followed) == ([] if bad is None else [bad])
    assert report.days == (START.date(),)
    held = check(followed.settings)
    assert [frame["source_kafka_offset"] for frame in held.frames] == list(range(12))
    assert repair(followed).steps == ()


@pytest.mark.parametrize("name", ["emptied", "flipped"])
def test_fault_40_a_damaged_last_segment_stops_runs_by_name_until_it_is_repaired(followed, name):
    key, bad = hurt(followed, 3, DAMAGES[name])
    followed.announce(2, first=12)
    with pytest.raises(DamagedSegmentError, match=key):
        followed.follow()

    report = repair(followed)

    assert [(step.start, step.end, step.source) for step in report.steps] == [(9, 14, "kafka")]
    assert kept(followed) == [bad]
    assert LID not in [followed.store.get(key) for key in keys(followed)]
    followed.announce(3, first=14)
    followed.follow()
    assert len(check(followed.settings).frames) == 17


def test_fault_40_neighbours_the_first_and_all_at_once_are_repaired(followed):
    hurt(followed, 0)
    hurt(followed, 1, DAMAGES["cut"])
    hurt(followed, 2, DAMAGES["removed"])
    assert [(s.start, s.end) for s in repair(followed).steps] == [(0, 3), (3, 9)]
    check(followed.settings)
    for number in range(len(keys(followed))):
        hurt(followed, number)
    repair(followed)
    assert len(check(followed.settings).frames) == 12
    hurt(followed, -1, DAMAGES["removed"])
    assert repair(followed).steps == (), "the next run makes the last one again"
    followed.follow()
    rebuild_day(followed.store, START.date(), now=utc_now(), force=True)
    check(followed.settings)


@pytest.mark.parametrize(
    ("number", "before", "source", "gaps"), [(1, 12, "gap", 3), (1, 5, "kafka and gap", 2), (3, 12, "gap", 3)]
)
def test_fault_40_what_kafka_no_longer_has_becomes_a_gap(followed, number, before, source, gaps):
    hurt(followed, number)
    drop_records(followed, before)
    assert [step.source for step in repair(followed, dry_run=True).steps] == [source]
    assert [step.source for step in repair(followed).steps] == [source]
    assert check(followed.settings).gap_reasons == {"damaged": gaps}


@pytest.mark.parametrize("number", [1, 3])
def test_fault_40_a_chain_whose_topic_was_recreated_is_repaired_by_gaps(followed, kafka, number):
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


def test_fault_40_a_repair_takes_nothing_from_a_log_other_than_the_one_that_was_read(followed):
    """The neighbours' fingerprints tell: here they are made to, by a segment that says another record was there."""
    store, key = followed.store, keys(followed)[0]
    segment = read_segment(store, key)
    other = replace(segment.header, fingerprint=replace(segment.header.fingerprint, sha256="0" * 64))
    store.put(key, encode_segment(other, segment.outcomes()))
    hurt(followed, 1)
    with pytest.raises(LedgerError, match=r"not the one that its chain was built from.*--without-kafka"):
        repair(followed)
    assert repair(followed, without_kafka=True).steps[0].source == "gap"
    assert check(followed.settings).gap_reasons == {"damaged": 3}


def test_fault_40_a_segment_of_a_newer_format_is_not_taken_for_damage(followed, monkeypatch):
    key = keys(followed)[1]
    segment = read_segment(followed.store, key)
    with monkeypatch.context() as other_release:
        other_release.setattr("imgpipeline.ledger.segment.FORMAT_VERSION", 99)
        data = encode_segment(segment.header, segment.outcomes())
    followed.store.put(key, data)
    with pytest.raises(LedgerError, match="format version 99"):
        repair(followed)
    assert followed.store.get(key) == data


def test_fault_40_queries_stop_by_name_where_the_damage_is_behind_the_tables(followed):
    followed.announce(3, first=12)
    followed.follow()
    [chain] = list_chains(followed.store)
    followed.store.put(segment_key(chain, 12), json.dumps({"no": "segment"}).encode())
    with pytest.raises(LedgerError, match=segment_key(chain, 12)), open_lake(followed.store) as session:
        session.query("SELECT count(*) FROM frames")
    repair(followed)
    assert len(check(followed.settings).frames) == 15


def test_fault_40_a_chain_that_cannot_be_repaired_does_not_stop_the_repair_of_others(followed):
    """Here one of a topic that is gone; its segments come first."""
    hurt(followed, 1)
    gone = ChainId("a-topic-that-is-gone", "id", 0)
    write_chain(followed.store, frames(0, 2), frames(2, 4), chain=gone)
    followed.store.put(segment_key(gone, 0), b"")

    report = repair(followed)

    assert [(step.chain.topic, step.start) for step in report.steps] == [(followed.settings.kafka_topic, 3)]
    [blocked] = report.blocked
    assert str(gone) in blocked
    assert "--without-kafka --key" in blocked
    assert report.days == (START.date(),)
    with pytest.raises(ConfigurationError, match="a-topic-that-is-gone"):
        repair(followed)
    repair(followed, key=segment_key(gone, 0), without_kafka=True)
    assert repair(followed).steps == ()
