"""Intervals contain the truth as often as they promise, on simulated days and on a real sequence with ground truth."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgpipeline.accuracy.estimator import Estimate, Run, Verdict, accept, add, estimate
from imgpipeline.accuracy.sampling import asking_order, draw_runs, run_bounds
from imgpipeline.tracking.evaluating import read_sequence
from imgpipeline_tests.accuracy.coverage import (
    DRAWS,
    Drawn,
    compared,
    coverage_of_the_first_intervals,
    draw_by_count,
    draw_by_runs,
    draw_consecutive,
    draw_prefix,
)
from imgpipeline_tests.accuracy.days import Scenario, SimulatedDay, scenarios, seeded, simulate
from imgpipeline_tests.accuracy.table import coverage_table

pytestmark = pytest.mark.slow

ACCURACY_PAGE = Path(__file__).resolve().parents[2] / "docs" / "accuracy.md"
DAYS = dict(zip([scenario.name for scenario in scenarios()], seeded(), strict=True))
BUSY = Scenario(1.1, night_loss=0.15, never_detected=0.08, false_alarms=0.1, has_gaps=False, step_s=5)
QUIET = Scenario(0.09, night_loss=0.15, never_detected=0.08, false_alarms=0.1, has_gaps=False, step_s=5)


def least_coverage(promised: float, draws: float) -> float:
    """What the coverage of this many draws may be by chance: two standard errors less."""
    return promised - 2 * math.sqrt(promised * (1 - promised) / draws)


def assert_intervals_are_right(day: SimulatedDay, drawn: Drawn) -> None:
    samples = drawn.errors.shape[1]
    if samples * (day.errors != 0).mean() >= 10:
        assert drawn.coverage(day) >= least_coverage(0.93, drawn.is_published.sum())
    else:
        # Ten errors are then rare, and if seen, too many: what counts is how often anyone reads a wrong interval.
        is_wrong = drawn.is_published & (np.abs(drawn.total - day.errors.sum()) > drawn.half)
        assert is_wrong.mean() <= 1 - least_coverage(0.90, DRAWS)


@pytest.mark.parametrize("name", DAYS)
class TestSimulatedDays:
    @pytest.mark.parametrize("samples", [120, 240, 480])
    def test_one_frame_of_each_run_gives_intervals_that_contain_the_truth(self, name, samples):
        _, day = DAYS[name]
        assert_intervals_are_right(day, draw_by_runs(day, samples, seed=samples))

    @pytest.mark.parametrize("answered", [120, 240])
    def test_so_do_the_first_answers_of_an_unfinished_plan(self, name, answered):
        _, day = DAYS[name]
        assert_intervals_are_right(day, draw_prefix(day, 480, answered, seed=answered))

    def test_nobody_gains_by_stopping_at_the_first_interval(self, name):
        _, day = DAYS[name]
        is_busy = (day.errors != 0).mean() * 480 >= 10
        promised = 0.93 if is_busy else 0.90
        assert coverage_of_the_first_intervals(day, 480, seed=5) >= least_coverage(promised, DRAWS)

    def test_the_arrays_hold_what_the_estimator_returns(self, name):
        _, day = DAYS[name]
        for drawn in (draw_by_runs(day, 240, seed=1), draw_prefix(day, 480, 240, seed=2)):
            for found, total, half in compared(day, drawn, 3):
                assert found.estimate == pytest.approx(max(found.seen, total))
                assert found.high == pytest.approx(max(found.seen, total + half))
                assert found.low == pytest.approx(max(found.seen, total - half))


class TestWrongWaysToDraw:
    def test_consecutive_frames_are_not_independent(self):
        day = simulate(BUSY, seed=1)
        assert draw_consecutive(day, 240, seed=1).coverage(day) < 0.5

    @pytest.mark.parametrize("scenario", [BUSY, QUIET])
    def test_frames_chosen_by_the_count_of_the_detector_hide_what_it_misses(self, scenario):
        day = simulate(scenario, seed=1)
        assert draw_by_count(day, 240, seed=1).coverage(day) < 0.5

    def test_the_right_way_passes_on_the_same_days(self):
        for scenario in (BUSY, QUIET):
            day = simulate(scenario, seed=1)
            assert draw_by_runs(day, 240, seed=1).coverage(day) >= least_coverage(0.93, DRAWS)


def runs_of(
    day: SimulatedDay, start: int, stop: int, samples: int, chance: np.random.Generator, each: int = 1
) -> list[Run]:
    """Draws some frames of each run of a part of a day, and answers all of them."""
    bounds = [(start + low, start + high) for low, high in run_bounds(stop - start, samples)]
    return [
        Run(high - low, tuple(day.errors[low:high][chance.choice(high - low, each, replace=False)].astype(float)))
        for low, high in bounds
    ]


def coverage_of(estimates: list[Estimate], truth: float) -> float:
    assert {found.verdict for found in estimates} == {Verdict.MEASURED}
    return float(np.mean([found.low <= truth <= found.high for found in estimates]))


def test_an_object_that_is_missed_for_hours_leaves_no_interval_without_a_width():
    """A parked car, for example: the errors of nearly all neighbouring runs are equal."""
    missed = np.zeros(17_280, dtype=int)
    missed[5_003:12_043] = 1
    day = SimulatedDay(true=missed + 1, detected=np.ones(17_280, dtype=int))
    for drawn in (draw_by_runs(day, 240, seed=1), draw_prefix(day, 240, 120, seed=1)):
        assert drawn.half.min() > 0
        assert drawn.coverage(day) >= least_coverage(0.93, DRAWS)


class TestOtherPlans:
    DRAWS = 400

    def test_two_frames_of_each_run(self):
        day, chance = simulate(BUSY, seed=2), np.random.default_rng(2)
        found = [
            estimate(float(day.detected.sum()), [(tuple(runs_of(day, 0, 17_280, 60, chance, each=2)))])
            for _ in range(self.DRAWS)
        ]
        assert coverage_of(found, day.true.sum()) >= least_coverage(0.93, self.DRAWS)

    def test_a_second_draw_of_which_some_frames_are_answered(self):
        day, chance = simulate(BUSY, seed=3), np.random.default_rng(3)

        def drawn() -> Iterator[Run]:
            for run in runs_of(day, 0, 17_280, 120, chance, each=2):
                yield run if chance.random() < 0.4 else Run(run.size, run.errors[:1])

        found = [estimate(float(day.detected.sum()), [(tuple(drawn()))]) for _ in range(self.DRAWS)]
        assert coverage_of(found, day.true.sum()) >= least_coverage(0.93, self.DRAWS)

    def test_frames_that_arrived_later_are_a_stratum_of_their_own(self):
        day, chance = simulate(BUSY, seed=4), np.random.default_rng(4)

        def strata() -> list[tuple[Run, ...]]:
            first, later = runs_of(day, 0, 14_000, 240, chance), runs_of(day, 14_000, 17_280, 60, chance)
            unanswered = set(chance.choice(60, 30, replace=False))
            later = [Run(run.size) if number in unanswered else run for number, run in enumerate(later)]
            return [(tuple(first)), (tuple(later))]

        found = [estimate(float(day.detected.sum()), strata()) for _ in range(self.DRAWS)]
        assert coverage_of(found, day.true.sum()) >= least_coverage(0.93, self.DRAWS)

    def test_a_week_of_few_samples_a_day(self):
        days, chance = [simulate(QUIET, seed=seed) for seed in range(10, 17)], np.random.default_rng(5)

        def week() -> Estimate:
            return add(
                [estimate(float(day.detected.sum()), [(tuple(runs_of(day, 0, 17_280, 60, chance)))]) for day in days]
            )

        found = [week() for _ in range(self.DRAWS // 2)]
        truth = sum(day.true.sum() for day in days)
        assert coverage_of(found, truth) >= least_coverage(0.93, self.DRAWS // 2)

    def test_people_who_cannot_tell_where_the_detector_fails(self):
        """The worst kind of missing answers: half of the frames with errors, and none of the others."""
        day, chance = simulate(BUSY, seed=6), np.random.default_rng(6)

        def drawn() -> Iterator[Run]:
            for run in runs_of(day, 0, 17_280, 240, chance):
                yield Run(run.size, (), 1) if run.errors[0] and chance.random() < 0.5 else run

        found = [estimate(float(day.detected.sum()), [(tuple(drawn()))]) for _ in range(self.DRAWS)]
        assert coverage_of(found, day.true.sum()) >= least_coverage(0.93, self.DRAWS)

    def test_the_frames_that_hashes_draw(self):
        """Other tests draw by a generator of random numbers; this one draws as the commands do."""
        day = simulate(replace(BUSY, step_s=20), seed=7)
        frames = {f"frame-{number}": number for number in range(len(day.true))}
        sizes = [stop - start for start, stop in run_bounds(len(frames), 240)]

        def errors(seed: str, answered: int) -> list[Run]:
            drawn = draw_runs(list(frames), 240, seed)
            asked = set(asking_order(drawn, seed)[:answered])
            return [
                Run(size, (float(day.errors[frames[frame_id]]),) if frame_id in asked else ())
                for size, frame_id in zip(sizes, drawn, strict=True)
            ]

        for answered in (240, 150):
            found = [estimate(float(day.detected.sum()), [(tuple(errors(str(seed), answered)))]) for seed in range(100)]
            assert coverage_of(found, day.true.sum()) >= least_coverage(0.93, 100)


class TestRealSequence:
    """The people are the ground truth; the detector is the one of the sequence, at several thresholds."""

    @pytest.fixture(params=[0.0, 0.95, 0.99])
    def sequence(self, request, shared_data) -> SimulatedDay:
        found = read_sequence(shared_data / "mot" / "TUD-Campus")
        detected = [int((frame.confidences >= request.param).sum()) for frame in found.frames]
        true = [len(numbers) for numbers, _ in found.truth]
        return SimulatedDay(np.array(true), np.array(detected))

    @pytest.mark.parametrize("samples", [20, 34])
    def test_intervals_contain_the_truth(self, sequence, samples):
        for drawn in (draw_by_runs(sequence, samples, seed=1), draw_prefix(sequence, 34, samples, seed=1)):
            assert drawn.is_published.mean() > 0.5
            assert drawn.coverage(sequence) >= least_coverage(0.93, drawn.is_published.sum())

    def test_acceptance_follows_the_true_error(self, sequence):
        drawn = draw_by_runs(sequence, 34, seed=1)
        error = sequence.detected.sum() / sequence.true.sum() - 1
        found = [accept(one, abs(error) - 0.01).accepted for one, _, _ in compared(sequence, drawn, 400)]
        assert np.mean(found) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)
        wide = [accept(one, abs(error) + 0.15).accepted for one, _, _ in compared(sequence, drawn, 400)]
        assert np.mean(wide) > 0.9


def test_a_detector_outside_the_margin_is_rarely_accepted():
    """At the edge of the margin, by at most 5 % of the draws."""
    day = simulate(BUSY, seed=8)
    error = day.detected.sum() / day.true.sum() - 1
    drawn = draw_by_runs(day, 240, seed=8)
    accepted = [accept(found, abs(error)).accepted for found, _, _ in compared(day, drawn, 1_000)]
    assert np.mean(accepted) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1_000)


def test_the_table_of_the_page_is_what_the_command_prints():
    """`python -m imgpipeline_tests.accuracy` prints it."""
    assert "\n".join(coverage_table()) in ACCURACY_PAGE.read_text(encoding="utf-8")
