"""When due objects are built: pauses, back-off and shared runs, by the clock of the test."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import pytest

from imgpipeline.daily.objects import COMPARISON, OBJECTS, RULE_OBJECTS
from imgpipeline.daily.pace import FAILURE_PAUSES_S, PastRun, Plan, plan
from imgpipeline.daily.states import CURRENT, Found
from imgpipeline.lake.days.derived import State

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TODAY, DAY = NOW.date(), date(2026, 3, 1)
DUE = Found(State.STALE, True, "older than its inputs")
NAMES = tuple(name for name in OBJECTS if name not in (*RULE_OBJECTS, COMPARISON))


def day_of(**states: Found) -> dict[str, Found]:
    """Return the states of a day's objects, current unless given."""
    return {name: states.get(name, CURRENT) for name in (*NAMES, *states)}


def ran(
    *objects: str,
    ago_s: float,
    took_s: float = 10,
    has_failed: bool = False,
    failed: frozenset[tuple[str, date]] | None = None,
) -> PastRun:
    """Return a run for today that ended some seconds ago."""
    ended = NOW - timedelta(seconds=ago_s)
    began = ended - timedelta(seconds=took_s)
    return PastRun(frozenset(objects or NAMES), TODAY, TODAY, began, ended, has_failed, failed)


def built(planned: Plan) -> Mapping[tuple[date, ...], tuple[str, ...]]:
    return {run.days: run.objects for run in planned.runs}


def test_everything_that_reads_a_due_object_is_built_with_it():
    assert built(plan({TODAY: day_of(day_tables=DUE)}, [], now=NOW)) == {(TODAY,): NAMES}
    labels = ("label_counts", "label_totals", "daily_report")
    assert built(plan({TODAY: day_of(label_counts=DUE)}, [], now=NOW)) == {(TODAY,): labels}
    assert built(plan({TODAY: day_of()}, [], now=NOW)) == {}


@pytest.mark.fault(45)
@pytest.mark.parametrize(
    ("took_s", "pause_s"), [(1, 60), (5, 100), (9, 180), (253, 180)], ids=["short", "usual", "long", "busy machine"]
)
def test_fault_45_the_pause_is_twenty_times_the_build_and_at_most_three_minutes(took_s, pause_s):
    states = {TODAY: day_of(day_tables=DUE)}
    early = plan(states, [ran(ago_s=pause_s - 1, took_s=took_s)], now=NOW)
    assert early.runs == ()
    assert early.waiting == {TODAY: NOW + timedelta(seconds=1)}
    assert built(plan(states, [ran(ago_s=pause_s, took_s=took_s)], now=NOW)) == {(TODAY,): NAMES}


@pytest.mark.parametrize("failures", range(1, len(FAILURE_PAUSES_S) + 3))
def test_each_failure_in_a_row_makes_the_pause_longer_up_to_an_hour(failures):
    pause_s = FAILURE_PAUSES_S[min(failures, len(FAILURE_PAUSES_S)) - 1]
    states = {TODAY: day_of(day_tables=DUE)}
    old = [ran(ago_s=10_000 * n, has_failed=True) for n in range(1, failures)]
    good = ran(ago_s=10_000 * failures)
    assert plan(states, [ran(ago_s=pause_s - 1, has_failed=True), *old, good], now=NOW).runs == ()
    assert plan(states, [ran(ago_s=pause_s, has_failed=True), *old, good], now=NOW).runs != ()


def test_a_run_that_names_what_failed_delays_nothing_else():
    failed = frozenset({("tracks", TODAY)})
    states = {TODAY: day_of(tracks=DUE, label_counts=DUE)}
    run = ran(ago_s=61, took_s=1, has_failed=True, failed=failed)
    earlier = ran(ago_s=200, has_failed=True, failed=failed)
    assert built(plan(states, [run, earlier], now=NOW)) == {(TODAY,): ("label_counts", "label_totals", "daily_report")}


@pytest.mark.fault(44)
def test_fault_44_a_killed_build_delays_its_objects_by_ten_seconds():
    """A run whose process was killed names nothing, so all that it was asked for counts as failed."""
    states = {TODAY: day_of(tracks=DUE, label_counts=DUE)}
    assert plan(states, [ran(ago_s=9, took_s=600, has_failed=True)], now=NOW).runs == ()
    assert plan(states, [ran(ago_s=10, took_s=600, has_failed=True)], now=NOW).runs != ()


def test_an_object_waits_while_one_that_it_needs_pauses_and_not_for_others():
    failing = ran("day_tables", ago_s=5, has_failed=True)
    assert plan({TODAY: day_of(day_tables=DUE, label_counts=DUE)}, [failing], now=NOW).runs == ()
    failing = ran("tracks", ago_s=5, has_failed=True)
    assert built(plan({TODAY: day_of(tracks=DUE, daily_report=DUE)}, [failing], now=NOW)) == {
        (TODAY,): ("daily_report",)
    }


def test_nothing_is_requested_for_a_day_while_a_run_builds_it():
    live = PastRun(frozenset(NAMES), TODAY, TODAY, NOW - timedelta(hours=1))
    planned = plan({TODAY: day_of(day_tables=DUE)}, [live], now=NOW)
    assert (planned.runs, planned.waiting) == ((), {TODAY: None})
    assert "2026-03-10 for the run that builds it" in planned.explain()


def test_an_import_of_four_hundred_days_is_one_run_and_today_has_its_own():
    days = [TODAY - timedelta(days=n) for n in range(401)]
    planned = plan({day: day_of(day_tables=DUE) for day in days}, [], now=NOW)
    assert [(run.days[0], run.days[-1]) for run in planned.runs] == [(TODAY, TODAY), (days[-1], days[1])]


def test_days_with_gaps_or_other_objects_are_separate_runs():
    states = {DAY + timedelta(days=n): day_of(day_tables=DUE) for n in (0, 1, 3)}
    states[DAY + timedelta(days=2)] = day_of(daily_report=DUE)
    planned = plan(states, [], now=NOW)
    assert [(run.days[0].day, len(run.days), len(run.objects)) for run in planned.runs] == [
        (4, 1, len(NAMES)), (3, 1, 1), (1, 2, len(NAMES))
    ]  # fmt: skip


def test_a_comparison_of_models_is_built_after_the_tables_in_their_run():
    states = {TODAY: day_of(day_tables=DUE, model_comparison=DUE)}
    assert built(plan(states, [], now=NOW)) == {(TODAY,): (*NAMES, COMPARISON)}
    assert built(plan({TODAY: day_of(model_comparison=DUE)}, [], now=NOW)) == {(TODAY,): (COMPARISON,)}


def test_what_waits_for_a_person_is_not_built_with_its_inputs():
    states = {TODAY: day_of(label_counts=DUE, daily_report=Found(State.DAMAGED, why="cannot be read"))}
    assert built(plan(states, [], now=NOW)) == {(TODAY,): ("label_counts", "label_totals")}
