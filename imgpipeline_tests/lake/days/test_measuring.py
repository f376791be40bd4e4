"""Measuring: people's answers against the detections of a day that grows, is processed again or is repaired."""

from dataclasses import replace
from statistics import fmean

import pytest

from imgpipeline.accuracy.answers import Answer, keep_answer, read_answers
from imgpipeline.accuracy.plans import Plan, read_plan
from imgpipeline.contracts.keys import ACCURACY_PLANS
from imgpipeline.contracts.outcomes import Frame, Gap, GapReason, Outcome
from imgpipeline.lake.days.measuring import AccuracyRow, changed_frames, measure
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.lake.conftest import OpenLake
from imgpipeline_tests.lake.counted_day import (
    SOURCE,
    cars,
    count_all,
    day_of,
    draw,
    found_cars,
    offsets,
    rewrite,
    seen,
    total,
)
from imgpipeline_tests.lake.samples import gated
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, dead_letter, write_chain, writer
from imgpipeline_tests.ledger.samples import append as append_segment

pytestmark = pytest.mark.medium

CHAIN_NAME = str(CHAIN)


def rows(store: ObjectStore, lake: OpenLake, threshold: float = 0.0) -> list[AccuracyRow]:
    plan = read_plan(store, DAY, SOURCE)
    assert plan is not None
    with lake(store, [DAY]) as session:
        return measure(session.rows, plan, read_answers(store, DAY, SOURCE), threshold)


def counted(store: ObjectStore, lake: OpenLake, stop: int = 300, samples: int = 60) -> tuple[list[Outcome], Plan]:
    """Write a day, draw a sample of its frames, and count all of it."""
    frames = day_of(0, stop)
    rewrite(store, frames)
    plan = draw(store, lake, samples)
    count_all(store, plan, frames)
    return frames, plan


def whole(store: ObjectStore, lake: OpenLake, threshold: float = 0.0) -> AccuracyRow:
    """Return the row of the whole day."""
    (row,) = (row for row in rows(store, lake, threshold) if row.part == "day")
    return row


def changes(store: ObjectStore, lake: OpenLake) -> tuple[int, int, int]:
    plan = read_plan(store, DAY, SOURCE)
    assert plan is not None
    with lake(store, [DAY]) as session:
        return changed_frames(session.rows, plan)


def test_the_estimate_adds_the_mean_error_of_each_run_to_the_count(store, lake):
    frames, plan = counted(store, lake)
    row = whole(store, lake)
    errors = [cars(offset) - found_cars(offset) for name, offset in offsets(frames).items() if name in plan.run_of]
    assert row.found.count == total(frames, found_cars)
    assert row.found.estimate == pytest.approx(row.found.count + 5 * sum(errors))
    assert row.found.seen == sum(cars(offsets(frames)[name]) for name in plan.samples)
    assert (row.found.frames, row.found.samples, row.found.verdict) == (300, 60, "measured")
    assert row.found.low < total(frames, cars) < row.found.high


def test_a_row_has_the_columns_of_the_table(store, lake):
    rewrite(store, day_of(0, 60))
    draw(store, lake, labels=["car", "person"])
    car, person = rows(store, lake)
    record = car.to_record()
    assert record["day"] == DAY
    assert (record["source"], record["label"], record["part"]) == (SOURCE, "car", "day")
    assert (record["verdict"], record["low"], record["agreement"]) == ("not_enough", None, None)
    assert (record["count"], person.found.count) == (total(day_of(0, 60), found_cars), 0)


def test_a_plan_is_about_processed_frames_only(store, lake):
    frames = day_of(0, 50)
    rewrite(store, [*frames, gated(50), dead_letter(51), replace(seen(52), source="yard")])
    plan = draw(store, lake)
    assert set(plan.samples) == set(offsets(frames))
    assert changes(store, lake) == (0, 0, 0)


def test_a_census_has_no_uncertainty(store, lake):
    frames, _ = counted(store, lake, 50, 100)
    row = whole(store, lake)
    assert row.found.low == row.found.estimate == row.found.high == total(frames, cars)


def test_only_detections_above_the_threshold_of_summaries_count(store, lake):
    frames, _ = counted(store, lake, 100, 100)
    for threshold, most in ((0.0, 9), (0.85, 1), (0.75, 2)):
        row = whole(store, lake, threshold)
        assert row.found.count == total(frames, lambda offset, most=most: min(most, found_cars(offset)))
        assert row.found.estimate == total(frames, cars)


def test_frames_that_came_after_the_plan_are_not_covered_until_it_is_extended(store, lake):
    frames, later = day_of(0, 300), day_of(300, 420)
    chain = write_chain(store, frames)
    plan = draw(store, lake)
    count_all(store, plan, frames)
    append_segment(chain, later)
    row = whole(store, lake)
    assert (row.found.verdict, row.found.count) == ("not_covered", total([*frames, *later], found_cars))
    assert changes(store, lake) == (120, 0, 0)
    extended = draw(store, lake)
    assert extended.draws[0] == plan.draws[0]
    assert len(set(extended.samples) & set(offsets(later))) == len(extended.samples) - 60 == 24
    count_all(store, extended, [*frames, *later])
    row = whole(store, lake)
    assert changes(store, lake) == (0, 0, 0)
    assert (row.found.verdict, row.found.frames, row.found.samples) == ("measured", 420, 84)
    assert row.found.low < total([*frames, *later], cars) < row.found.high


def test_frames_that_came_later_but_were_captured_earlier_belong_to_the_later_draw(store, lake):
    early = [replace(seen(offset), timestamp=seen(offset - 300).timestamp) for offset in range(300, 340)]
    chain = write_chain(store, day_of(0, 300))
    draw(store, lake)
    append_segment(chain, early)
    assert changes(store, lake) == (40, 0, 0)
    extended = draw(store, lake)
    assert extended.strata[1].size == 40


def test_more_samples_of_the_same_frames_narrow_the_interval(store, lake):
    frames, _ = counted(store, lake)
    before = whole(store, lake)
    extended = draw(store, lake)
    assert len(extended.samples) == 120
    count_all(store, extended, frames)
    after = whole(store, lake)
    assert after.found.samples == 120
    assert after.found.high - after.found.low < before.found.high - before.found.low


def test_a_day_that_is_processed_again_keeps_its_answers(store, lake):
    frames, plan = counted(store, lake)
    rewrite(store, day_of(0, 300, lambda offset: cars(offset) + offset % 2))
    row = whole(store, lake)
    errors = [-(offset % 2) for name, offset in offsets(frames).items() if name in plan.run_of]
    assert row.found.count == total(frames, cars) + 150
    assert row.found.estimate == pytest.approx(row.found.count + 300 * fmean(errors))
    assert read_plan(store, DAY, SOURCE) == plan
    assert changes(store, lake) == (0, 0, 0)


def test_after_a_repair_the_frames_that_are_left_are_estimated(store, lake):
    frames, plan = counted(store, lake)
    left = [*frames[:101], *frames[143:]]
    rewrite(store, [*frames[:101], Gap(101, 143, GapReason.EXPIRED), *frames[143:]])
    row = whole(store, lake)
    is_gone = [name for name in plan.samples if name not in offsets(left)]
    assert changes(store, lake) == (0, 42, 0)
    assert row.found.frames == 258
    assert row.found.count == total(left, found_cars)
    assert row.found.samples == 60 - len(is_gone)
    assert row.found.low < total(left, cars) < row.found.high


def test_a_run_that_lost_only_its_sample_is_undecided(store, lake):
    frames, plan = counted(store, lake)
    before = whole(store, lake)
    lost = offsets(frames)[plan.samples[0]]
    rewrite(store, [dead_letter(lost) if offset == lost else each for offset, each in enumerate(frames)])
    row = whole(store, lake)
    assert (row.found.undecided, row.found.samples) == (1, 59)
    assert row.found.high - row.found.low > before.found.high - before.found.low


def test_frames_that_a_repair_brings_back_are_counted(store, lake):
    frames = day_of(0, 100)
    rewrite(store, [dead_letter(0), dead_letter(1), *frames[2:]])
    draw(store, lake, samples=20)
    rewrite(store, frames)
    assert changes(store, lake) == (0, 0, 2)
    row = whole(store, lake)
    assert row.found.covered
    assert row.found.frames == 100


def test_of_two_people_the_first_one_counts_and_the_second_one_agrees_or_not(store, lake):
    frames, plan = counted(store, lake, 120)
    alone = whole(store, lake)
    second = replace(plan, draws=(replace(plan.draws[0], samples=plan.draws[0].samples[:10]),))
    count_all(store, second, frames, by="bob", truth=lambda offset: cars(offset) + (offset % 4 == 0))
    row = whole(store, lake)
    assert row.found == alone.found
    agreed = [offsets(frames)[name] % 4 != 0 for name in second.samples]
    assert row.agreement == sum(agreed) / 10


def test_who_cannot_tell_widens_the_interval(store, lake):
    _, plan = counted(store, lake)
    before = whole(store, lake)
    for name in plan.samples[:6]:
        keep_answer(store, Answer(DAY, SOURCE, name, "ada", NOON, cannot_tell=True))
    row = whole(store, lake)
    assert (row.found.undecided, row.found.samples) == (6, 54)
    assert row.found.below + row.found.above > 0
    assert row.found.high - row.found.low > before.found.high - before.found.low


def test_answers_to_other_frames_do_not_count(store, lake):
    frames, plan = counted(store, lake)
    before = rows(store, lake)
    other = next(name for name in offsets(frames) if name not in plan.run_of)
    keep_answer(store, Answer(DAY, SOURCE, other, "ada", NOON, {"car": 99}))
    assert rows(store, lake) == before


def test_a_part_of_the_day_with_enough_samples_has_an_estimate_of_its_own(store, lake):
    frames, _ = counted(store, lake, 700, 130)  # until 11:40
    all_day, early, late = rows(store, lake)
    assert [row.part for row in (all_day, early, late)] == ["day", "00-06", "06-12"]
    assert early.found.count + late.found.count == all_day.found.count
    assert early.found.seen + late.found.seen == all_day.found.seen
    assert early.found.correction + late.found.correction == pytest.approx(all_day.found.correction)
    assert early.found.low < total(frames[:360], cars) < early.found.high
    assert late.found.low < total(frames[360:], cars) < late.found.high


def test_a_part_of_the_day_with_fewer_samples_has_none(store, lake):
    counted(store, lake, 700, 100)
    assert [row.part for row in rows(store, lake)] == ["day"]


def test_several_chains_have_ends_of_their_own(store, lake):
    frames = day_of(0, 200)
    other = replace(CHAIN, partition=1)
    write_chain(store, frames[:100])
    draw(store, lake)
    moved = [replace(each, partition=1, offset=each.offset - 100) for each in frames[100:] if isinstance(each, Frame)]
    assert append_segment(writer(store, other), moved)
    assert changes(store, lake) == (100, 0, 0)
    assert [info.key for info in store.list_objects(ACCURACY_PLANS)]


def test_frames_of_one_time_are_divided_by_their_ids(store, lake):
    frames = [replace(each, timestamp=NOON) for each in day_of(0, 300) if isinstance(each, Frame)]
    rewrite(store, frames)
    plan = draw(store, lake)
    count_all(store, plan, frames)
    row = whole(store, lake)
    assert plan.draws[0].sizes == [5] * 60
    assert changes(store, lake) == (0, 0, 0)
    assert (row.found.frames, row.found.samples, row.found.undecided) == (300, 60, 0)
