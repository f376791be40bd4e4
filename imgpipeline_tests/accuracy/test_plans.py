"""Plans: draws that are never replaced, even if several people make them at the same time."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta

import pytest

from imgpipeline.accuracy.plans import (
    Plan,
    days_with_plans,
    extend_plan,
    list_inputs,
    make_plan,
    read_plan,
    read_plans,
)
from imgpipeline.contracts.keys import accuracy_changed_key, numbered_key, plan_prefix
from imgpipeline.errors import PermanentError, UsageError
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.accuracy.samples import DAY, NOON, places, population
from imgpipeline_tests.objectstore.stores import SHARED_KINDS, fresh_store


@pytest.fixture(params=SHARED_KINDS)
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """A fresh store: a folder, or a prefix of a real S3 bucket."""
    return fresh_store(request.param, request)


def planned(store: ObjectStore, samples: int = 20, source: str = "gate") -> Plan:
    """Make a plan for 100 frames, and return it as stored."""
    given = population(places(0, 100), source)
    make_plan(store, given, labels=["person", "car"], samples=samples, by="ada", at=NOON)
    found = read_plan(store, DAY, source)
    assert found
    return found


def in_runs(plan: Plan) -> dict[int, list[str]]:
    """Return the frames of each run of a plan of 100 frames."""
    frames = [frame_id for _, frame_id in places(0, 100)]
    each = 100 // len(plan.starts)
    return {run: frames[run * each : (run + 1) * each] for run in range(len(plan.starts))}


def test_a_plan_has_one_sample_of_each_equal_run(store):
    plan = planned(store)
    runs = in_runs(plan)
    assert (plan.day, plan.source, plan.labels) == (DAY, "gate", ("car", "person"))
    assert len(plan.samples) == 20
    assert all(sample in runs[run] for sample, run in plan.run_of.items())
    assert set(plan.run_of.values()) == set(range(20))
    assert plan.draws[0].sizes == [5] * 20


def test_people_are_asked_in_random_order(store):
    plan = planned(store, samples=50)
    assert sorted(plan.samples) == sorted(plan.run_of)
    assert list(plan.samples) != sorted(plan.samples)
    assert plan.samples == planned(store, samples=50).samples


def test_a_day_without_a_plan_has_none(store):
    assert read_plan(store, DAY, "gate") is None
    assert read_plans(store, DAY) == []
    assert days_with_plans(store) == {}


def test_a_population_smaller_than_the_sample_is_counted_completely(store):
    make_plan(store, population(places(0, 3)), labels=["car"], samples=240, by="ada", at=NOON)
    plan = read_plan(store, DAY, "gate")
    assert plan is not None
    assert sorted(plan.samples) == [frame_id for _, frame_id in places(0, 3)]


def test_a_plan_needs_frames_and_labels(store):
    with pytest.raises(UsageError, match="no processed frames"):
        make_plan(store, population([]), labels=["car"], samples=10, by="ada", at=NOON)
    with pytest.raises(UsageError, match="no labels to count"):
        make_plan(store, population(places(0, 9)), labels=[], samples=10, by="ada", at=NOON)


def test_a_second_plan_changes_nothing(store):
    first = planned(store).draws[0]
    again = make_plan(store, population(places(0, 50)), labels=["dog"], samples=5, by="bob", at=NOON)
    assert again == first
    assert planned(store).draws == (first,)


def test_of_racing_plans_all_get_the_one_that_is_stored(store):
    def make(number: int) -> object:
        given = population(places(0, 100 + number))
        return make_plan(store, given, labels=["car"], samples=20, by=f"person {number}", at=NOON)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    plan = read_plan(store, DAY, "gate")
    assert plan is not None
    assert made == [plan.draws[0]] * 8


def test_more_samples_are_one_more_of_each_run(store):
    plan = planned(store)
    runs = in_runs(plan)
    draw = extend_plan(store, plan, population([], runs=runs), by="bob", at=NOON)
    assert (draw.size, draw.starts) == (0, ())
    extended = read_plan(store, DAY, "gate")
    assert extended is not None
    assert Counter(extended.run_of.values()) == dict.fromkeys(range(20), 2)
    assert all(sample in runs[run] for sample, run in extended.run_of.items())
    assert extended.samples[:20] == plan.samples
    assert extended.labels == plan.labels


def test_a_run_whose_frames_are_all_samples_gives_none(store):
    plan = planned(store, samples=50)
    runs = in_runs(plan)
    runs[7] = [frame_id for frame_id in runs[7] if frame_id in plan.run_of]
    draw = extend_plan(store, plan, population([], runs=runs), by="bob", at=NOON)
    assert [run for run, sample in enumerate(draw.samples) if sample is None] == [7]


def test_a_plan_of_which_all_frames_are_samples_cannot_be_extended(store):
    plan = planned(store, samples=100)
    with pytest.raises(UsageError, match="in the sample already"):
        extend_plan(store, plan, population([], runs=in_runs(plan)), by="bob", at=NOON)


def test_later_frames_are_a_population_of_their_own(store):
    plan = planned(store)
    later = replace(population(places(100, 150)), ends={"frames/topic-id/0": 2_000})
    draw = extend_plan(store, plan, later, by="bob", at=NOON + timedelta(hours=1))
    assert (draw.size, len(draw.starts)) == (50, 10)
    extended = read_plan(store, DAY, "gate")
    assert extended is not None
    assert [len(each.starts) for each in extended.strata] == [20, 10]
    assert set(extended.run_of.values()) == set(range(30))
    new = {frame_id for _, frame_id in places(100, 150)}
    assert all((sample in new) == (run >= 20) for sample, run in extended.run_of.items())


def test_more_samples_are_also_drawn_of_later_frames(store):
    plan = planned(store)
    extend_plan(store, plan, population(places(100, 150)), samples=10, by="bob", at=NOON)
    plan = read_plan(store, DAY, "gate") or plan
    runs = in_runs(plan) | {20: [frame_id for _, frame_id in places(100, 105)]}
    draw = extend_plan(store, plan, population([], runs=runs), by="bob", at=NOON)
    assert len(draw.samples) == 30
    assert draw.samples[20] in runs[20]


def test_who_extends_second_gets_the_draw_of_the_first(store):
    plan = planned(store)
    first = extend_plan(store, plan, population(places(100, 150)), by="bob", at=NOON)
    second = extend_plan(store, plan, population(places(100, 160)), by="eve", at=NOON)
    assert second == first


def test_each_new_draw_changes_the_mark_of_its_day(store):
    plan = planned(store)
    before, inputs = days_with_plans(store), list_inputs(store, DAY)
    assert set(before) == {DAY}
    extend_plan(store, plan, population(places(100, 150)), by="bob", at=NOON)
    assert days_with_plans(store)[DAY] != before[DAY]
    assert set(list_inputs(store, DAY)) > set(inputs)
    assert list_inputs(store, date(2026, 1, 10)) == []


def test_a_plan_whose_maker_died_before_marking_the_day_is_found(store):
    planned(store)
    store.delete(accuracy_changed_key(DAY))
    assert days_with_plans(store) == {DAY: ""}


def test_the_plans_of_a_day_are_listed_by_source(store):
    for source in ("yard", "gate", "Tor 2/links"):
        planned(store, source=source)
    assert [plan.source for plan in read_plans(store, DAY)] == ["Tor 2/links", "gate", "yard"]


def test_a_damaged_draw_is_named(store):
    planned(store)
    key = numbered_key(plan_prefix(DAY, "gate"), 1)
    store.put(key, b"{}")
    with pytest.raises(PermanentError, match=key):
        read_plan(store, DAY, "gate")
