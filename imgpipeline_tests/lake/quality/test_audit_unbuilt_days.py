"""Days without tables are counted in the ledger, and reported as not compared."""

from dataclasses import replace
from datetime import timedelta

import pytest

from imgpipeline.contracts.keys import Bucket, bucket_key, segment_key
from imgpipeline_tests.lake.audits import build_all, is_current, log_range, run_audit
from imgpipeline_tests.lake.killed_builds import die_after_frames
from imgpipeline_tests.lake.samples import chosen_frames, day_outcomes, seen, stored_letters
from imgpipeline_tests.ledger.samples import CHAIN, DAY, append, dead_letter, frames, gap, write_chain
from imgpipeline_tests.objectstore.noting import NotingStore

NEXT = DAY + timedelta(days=1)
LATER = DAY + timedelta(days=2)


@pytest.mark.medium
def test_days_without_tables_are_counted_and_reported_as_not_compared(store):
    made = build_all(store)
    append(made, [seen(12, ["car", "dog"], NEXT), replace(seen(13, ["dog"], NEXT), frame_id="twice")])
    append(made, [replace(seen(14, ["car"] * 3, NEXT), frame_id="twice"), dead_letter(15, NEXT), seen(16, [], LATER)])
    report = run_audit(store, log_range(20))
    assert (report.ok, is_current(report)) == (True, False)
    assert [(day.day, day.state) for day in report.days] == [
        (DAY, "compared"),
        (NEXT, "not built"),
        (LATER, "not built"),
    ]
    assert [day.day for day in report.not_compared] == [NEXT, LATER]
    for day in report.days:
        chosen = chosen_frames(store, day.day).values()
        detections = sum(len(frame.detections) for frame in chosen)
        letters = len(stored_letters(store, day.day))
        figures = day.figures
        assert (figures.frames_in_ledger, figures.detections_in_ledger) == (len(chosen), detections)
        assert figures.dead_letters_in_ledger == letters
        assert day.to_json()["stale"] == (day.day != DAY)


def test_days_without_tables_are_counted_again_only_if_their_chains_grew(memory):
    made = write_chain(memory, day_outcomes(0, 4), frames(4, 6, NEXT))
    counting = NotingStore(memory)
    first = run_audit(counting).to_json()["days"]
    counting.fetched.clear()
    assert run_audit(counting).to_json()["days"] == first
    assert set(counting.segments) == {segment_key(CHAIN, 4)}
    append(made, frames(6, 9, NEXT))
    assert [day["frames_in_ledger"] for day in run_audit(counting).to_json()["days"]] == [4, 5]


def test_the_stored_tables_of_a_killed_first_build_are_compared(memory):
    write_chain(memory, day_outcomes(0, 6), [dead_letter(6)])
    die_after_frames(memory)
    (day,) = run_audit(memory).days
    assert (day.state, day.ok, day.stale) == ("partly built", True, True)
    assert (day.figures.frames_in_ledger, day.figures.frames_in_parquet) == (6, 6)
    assert (day.figures.detections_in_ledger, day.figures.detections_in_parquet) == (7, 0)
    assert (day.figures.dead_letters_in_ledger, day.figures.dead_letters_in_parquet) == (1, 0)


def test_a_damaged_segment_leaves_the_other_days_without_tables_counted(memory):
    write_chain(memory, frames(0, 3), [gap(3, 2000)], frames(2000, 2002, NEXT))
    memory.put(segment_key(CHAIN, 0), b"")
    report = run_audit(memory)
    assert [day.figures.frames_in_ledger for day in report.days] == [None, 2]
    assert [day.ok for day in report.days] == [False, True]
    assert not report.ok


def test_an_index_entry_without_a_segment_is_not_a_day(memory):
    write_chain(memory, frames(0, 3))
    memory.put(bucket_key(Bucket(NEXT, CHAIN, 0)), b"")
    assert [day.day for day in run_audit(memory).days] == [DAY]
