"""An estimate is the detector's count plus what its errors on a random sample say about all frames."""

import math
from itertools import combinations, product
from statistics import NormalDist, fmean, pvariance

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from imgpipeline.accuracy.estimator import (
    Run,
    Verdict,
    accept,
    add,
    estimate,
    samples_for,
    t_quantile,
)


def sample(*errors, size=10):
    """One population: a run of `size` frames for each error, without an answer where it is None."""
    return tuple(Run(size, () if error is None else (error,)) for error in errors)


def test_each_error_counts_for_all_frames_of_its_run():
    found = estimate(100, [((Run(10, (1,)), Run(11, (-1,)), Run(10, (2, 0)), Run(11, (0,))))])
    assert found.estimate == 100 + 10 - 11 + 10
    assert (found.frames, found.samples, found.errors_seen, found.undecided) == (42, 5, 3, 0)


class TestVariance:
    def test_neighbouring_runs_of_one_error_give_it(self):
        found = estimate(100, [sample(3, 1, 0, 4)])
        assert found.variance == pytest.approx(10**2 * ((3 - 1) ** 2 + (0 - 4) ** 2))
        assert found.degrees == 2

    def test_the_last_three_of_an_odd_number_of_runs_are_one_group(self):
        found = estimate(100, [sample(3, 1, 0, 4, 2)])
        of_three = 10**2 * 3 * ((0 - 2) ** 2 + (4 - 2) ** 2) / 2
        assert found.variance == pytest.approx(10**2 * (3 - 1) ** 2 + of_three)
        assert found.degrees == 1 + 2

    def test_runs_of_two_errors_have_their_own(self):
        found = estimate(100, [((Run(10, (3, 1)), Run(10, (100, 100))))])
        assert found.variance == pytest.approx((1 - 2 / 10) * 10**2 * 2 / 2)
        assert found.degrees == 2

    def test_a_run_whose_frames_are_all_answered_has_none(self):
        answered = [Run(1, (error,)) for error in (5, -5, 9)]
        found = estimate(100, [((*answered, Run(2, (3,)), Run(2, (1,))))])
        assert found.variance == 2**2 * (3 - 1) ** 2
        assert found.degrees == 1

    def test_one_run_of_one_error_among_runs_of_two_is_compared_with_one_of_them(self):
        found = estimate(100, [((Run(10, (1, 1)), Run(10, (5,)), Run(10, (1, 1))))])
        assert found.variance > 0
        assert found.degrees == 2

    def test_without_all_answers_the_errors_are_a_simple_random_sample(self):
        found = estimate(100, [sample(3, 1, 0, 4, None, None, None, None)])
        assert found.estimate == 100 + 80 * 2
        assert found.variance == pytest.approx((1 - 4 / 80) * 80**2 * (10 / 3) / 4)
        assert found.degrees == pytest.approx(3)

    def test_there_is_none_where_people_counted_all_frames(self):
        found = estimate(3, [sample(0, 1, 0, 0, 0, size=1)])
        assert (found.low, found.estimate, found.high) == (4, 4, 4)
        assert found.verdict is Verdict.MEASURED

    def test_samples_that_are_gone_leave_the_other_frames_answered(self):
        found = estimate(3, [((Run(1, (1,), 1), Run(1, (1,)), Run(0, (), 1)))])
        assert (found.verdict, found.low, found.high) == (Verdict.MEASURED, 5, 5)

    def test_the_one_frame_of_a_population_is_all_of_it(self):
        assert estimate(1, [sample(1, size=1)]).high == 2

    def test_runs_without_frames_change_nothing(self):
        with_empty = (Run(10, (3,)), Run(0), Run(10, (1,)))
        assert estimate(1, [with_empty]) == estimate(1, [((Run(10, (3,)), Run(10, (1,))))])


class TestAllSamplesOfTwelveFrames:
    ERRORS = (0, 2, -1, 0, 3, 0, 0, 1, -2, 0, 0, 4)

    def found(self, groups, picks):
        """The estimates from each combination of picks in each group."""
        return [
            estimate(0, [(tuple(Run(len(group), errors) for group, errors in zip(groups, picked, strict=True)))],
                     seen=-math.inf)
            for picked in product(*[list(combinations(group, picks)) for group in groups])
        ]  # fmt: skip

    def test_a_simple_random_sample_is_right_on_average_and_so_is_its_variance(self):
        found = self.found([self.ERRORS], 4)
        assert len(found) == 495
        assert fmean(one.estimate for one in found) == pytest.approx(sum(self.ERRORS))
        assert fmean(one.variance for one in found) == pytest.approx(pvariance([one.estimate for one in found]))

    def test_two_frames_of_each_run_are_right_on_average_and_so_is_their_variance(self):
        found = self.found([self.ERRORS[:4], self.ERRORS[4:8], self.ERRORS[8:]], 2)
        assert len(found) == 6**3
        assert fmean(one.estimate for one in found) == pytest.approx(sum(self.ERRORS))
        assert fmean(one.variance for one in found) == pytest.approx(pvariance([one.estimate for one in found]))

    def test_one_frame_of_each_run_is_right_on_average_and_its_variance_is_not_too_small(self):
        found = self.found([self.ERRORS[start : start + 3] for start in range(0, 12, 3)], 1)
        assert len(found) == 3**4
        assert fmean(one.estimate for one in found) == pytest.approx(sum(self.ERRORS))
        assert fmean(one.variance for one in found) >= pvariance([one.estimate for one in found])


def prediction_powered(people, detector, detector_everywhere):
    """The 95 % interval of the mean by prediction-powered inference, from its paper: arXiv 2301.09633, section 2.1."""
    center = detector_everywhere.mean() + (people - detector).mean()
    deviation = math.sqrt(
        detector_everywhere.var() / len(detector_everywhere) + (people - detector).var() / len(people)
    )
    return center - NormalDist().inv_cdf(0.975) * deviation, center + NormalDist().inv_cdf(0.975) * deviation


class TestPredictionPoweredInference:
    """On independent data. It takes the frames as a sample of more frames, and divides by n instead of n - 1."""

    # From ppi_mean_ci(people, detector, detector_everywhere, alpha=0.05, lam=1) of ppi-python 0.2.3. It is not a
    # dependency of the tests because it needs numba, which allows new versions of Python and numpy only months later.
    KNOWN = (
        (1, 120, 17_280, 1.1, 1.1773972362339076, 1.4234129489512775),
        (2, 240, 17_280, 0.09, 0.32707099163409864, 0.45846141577330873),
        (3, 480, 5_000, 3.0, 2.9260453171602765, 3.1003546828397233),
    )

    def data(self, seed, samples, frames, rate):
        random = np.random.default_rng(seed)
        everywhere = random.poisson(rate, frames)
        detector = random.poisson(rate, samples)
        return np.maximum(0, detector + random.integers(-1, 2, samples)), detector, everywhere

    def interval(self, people, detector, everywhere):
        """The interval of `prediction_powered`, from an estimate."""
        samples, frames = len(people), len(everywhere)
        errors = tuple(float(error) for error in people - detector)
        found = estimate(float(everywhere.sum()), [((Run(frames, errors),))])
        of_errors = found.variance / frames**2 / (1 - samples / frames) * (samples - 1) / samples
        half = NormalDist().inv_cdf(0.975) * math.sqrt(everywhere.var() / frames + of_errors)
        return found.estimate / frames - half, found.estimate / frames + half

    @pytest.mark.parametrize(("seed", "samples", "frames", "rate", "low", "high"), KNOWN)
    def test_the_estimate_and_its_variance_are_those_of_ppi_python(self, seed, samples, frames, rate, low, high):
        assert self.interval(*self.data(seed, samples, frames, rate)) == pytest.approx((low, high), rel=1e-9)

    @pytest.mark.parametrize("seed", range(10, 20))
    def test_they_follow_its_formula_on_other_data(self, seed):
        data = self.data(seed, 50 + 10 * seed, 1_000 * seed, 1 / seed)
        assert self.interval(*data) == pytest.approx(prediction_powered(*data), rel=1e-9)


@pytest.mark.parametrize("probability", [0.95, 0.975])
@pytest.mark.parametrize("degrees", [3, 4, 5, 7.5, 20, 120, math.inf])
def test_quantiles_are_those_of_students_t(probability, degrees):
    assert t_quantile(probability, degrees) == pytest.approx(student.ppf(probability, degrees), rel=2e-3)


class TestInterval:
    def test_it_is_wider_than_the_estimate_by_quantiles_of_its_degrees(self):
        found = estimate(5_000, [sample(*[1, -1, 0, 2] * 6)])
        assert found.degrees == 12
        half = student.ppf(0.975, 12) * math.sqrt(found.variance)
        assert (found.low, found.high) == pytest.approx((5_120 - half, 5_120 + half), rel=1e-4)

    def test_it_begins_no_lower_than_what_people_saw(self):
        found = estimate(10, [sample(*[2, -1] * 10)], seen=60)
        assert found.low == 60
        assert found.estimate == 110

    def test_an_estimate_below_what_people_saw_is_raised_to_it(self):
        found = estimate(190, [sample(*[-1, 0] * 20)], seen=7)
        assert found.correction == -200
        assert found.low == found.estimate == 7 < found.high

    def test_a_difference_may_be_negative(self):
        found = estimate(0, [sample(*[-1, 0] * 20)], seen=-math.inf)
        assert found.low < found.estimate == -200

    @pytest.mark.parametrize("answers", [9, 239])
    def test_few_errors_and_few_samples_give_none(self, answers):
        found = estimate(100, [sample(*[1] * 9, *[0] * (answers - 9))])
        assert (found.verdict, found.low, found.high) == (Verdict.NOT_ENOUGH, None, None)

    def test_ten_errors_or_240_samples_are_enough(self):
        assert estimate(100, [sample(*[1] * 10)]).verdict is Verdict.MEASURED
        assert estimate(100, [sample(*[1] * 9, *[0] * 231)]).verdict is Verdict.MEASURED

    def test_without_any_error_it_follows_the_rule_of_three(self):
        found = estimate(1_000, [sample(*[0] * 240)], seen=90)
        assert found.variance == 0
        assert (found.low, found.estimate, found.high) == (1_000 - 3 * 10, 1_000, 1_000 + 3 * 10)

    def test_equal_errors_follow_the_rule_of_three_as_well(self):
        found = estimate(0, [sample(*[1] * 240)])
        assert (found.low, found.estimate, found.high) == (2_400 - 30, 2_400, 2_400 + 30)

    def test_there_is_none_without_any_answer(self):
        assert estimate(100, [sample(None, None)]).verdict is Verdict.NOT_ENOUGH
        assert estimate(100, [sample(*[1] * 300), sample(None, None)]).verdict is Verdict.NOT_ENOUGH

    def test_there_is_none_while_frames_are_not_covered(self):
        assert estimate(100, [sample(*[1] * 300)], covered=False).verdict is Verdict.NOT_COVERED

    def test_a_plan_without_frames_has_nothing_to_measure(self):
        found = estimate(0, [])
        assert (found.estimate, found.samples, found.frames) == (0, 0, 0)
        assert found.verdict is Verdict.NOT_ENOUGH


class TestUndecided:
    def test_they_widen_the_interval_to_the_lowest_and_the_highest_error_seen(self):
        decided = [Run(10, (error,)) for error in [1, -2, 0, 1] * 10]
        doubtful = estimate(1_000, [((*decided, Run(10, (), 1), Run(10, (), 1)))])
        assert doubtful.undecided == 2
        assert doubtful.estimate == 1_000
        assert (doubtful.below, doubtful.above) == pytest.approx((2 * 10 * 2, 2 * 10 * 1))
        without = estimate(1_000, [(tuple(decided))])
        assert doubtful.low < without.low - doubtful.below
        assert doubtful.high > without.high + doubtful.above

    def test_their_share_of_the_samples_is_in_doubt(self):
        found = estimate(0, [((Run(10, (1,), 1), Run(10, (-1, 1)), Run(10, (3, -4))))])
        assert (found.below, found.above) == pytest.approx((30 / 6 * 4, 30 / 6 * 3))

    def test_they_are_a_part_of_an_unfinished_sample(self):
        found = estimate(0, [((Run(10, (1,)), Run(10, (-1,)), Run(10, (), 2), Run(10)))])
        assert (found.below, found.above) == (20, 20)

    def test_they_may_have_no_error_where_all_others_have_one(self):
        found = estimate(0, [((*[Run(10, (2,))] * 18, Run(10, (), 1), Run(10, (), 1)))])
        assert (found.below, found.above) == pytest.approx((20 * 2, 0))

    def test_they_leave_a_population_uncounted(self):
        found = estimate(0, [((*[Run(1, (1,))] * 9, *[Run(1, (), 1)] * 9))])
        assert found.verdict is Verdict.NOT_ENOUGH
        assert estimate(0, [(tuple([Run(1, (1,))] * 9))]).verdict is Verdict.MEASURED

    def test_a_population_counted_but_for_them_is_as_wide_as_they_are(self):
        found = estimate(0, [((*[Run(1, (1,)), Run(1, (0,))] * 20, Run(1, (), 1)))])
        assert (found.verdict, found.variance) == (Verdict.MEASURED, 0)
        assert found.low <= 20
        assert found.high >= 21

    def test_a_sample_of_nothing_else_gives_no_interval(self):
        found = estimate(100, [((Run(1, (), 1),) * 300)])
        assert (found.verdict, found.undecided) == (Verdict.NOT_ENOUGH, 300)


class TestSums:
    def test_strata_sources_and_days_add_their_variances(self):
        yard, gate = estimate(500, [sample(*[1, -1] * 10)], seen=3), estimate(300, [sample(*[2, 0] * 10)], seen=4)
        both = add([yard, gate])
        assert (both.estimate, both.seen) == (yard.estimate + gate.estimate, 7)
        assert both.variance == yard.variance + gate.variance
        assert both == estimate(800, [sample(*[1, -1] * 10), sample(*[2, 0] * 10)], seen=7)

    def test_their_degrees_follow_the_larger_variance(self):
        small, large = estimate(0, [sample(*[1, 0] * 50, size=2)]), estimate(0, [sample(*[3, -3] * 5, size=50)])
        assert 5 <= add([small, large]).degrees < 5.1

    def test_ten_errors_of_a_week_are_enough(self):
        days = [estimate(100, [sample(*[1] * 2, *[0] * 28)])] * 7
        assert {day.verdict for day in days} == {Verdict.NOT_ENOUGH}
        assert add(days).verdict is Verdict.MEASURED

    def test_a_part_without_errors_keeps_its_rule_of_three(self):
        found = add([estimate(100, [sample(*[0] * 30)]), estimate(100, [sample(*[0] * 300)])])
        assert found.high - found.estimate == pytest.approx(math.hypot(30, 30))

    @pytest.mark.parametrize(
        ("part", "verdict"),
        [
            (estimate(100, [sample(None)]), Verdict.NOT_ENOUGH),
            (estimate(100, [sample(1)]), Verdict.NOT_ENOUGH),
            (estimate(100, [sample(1)], covered=False), Verdict.NOT_COVERED),
        ],
    )
    def test_a_part_that_cannot_be_estimated_leaves_the_sum_without_an_interval(self, part, verdict):
        assert add([estimate(100, [sample(*[1] * 300)]), part]).verdict is verdict

    def test_a_variance_from_two_samples_alone_gives_no_interval(self):
        many, two = estimate(100, [sample(*[1, 0] * 100)]), estimate(100, [sample(9, -9, size=1_000)])
        assert many.verdict is Verdict.MEASURED
        assert add([many, two]).verdict is Verdict.NOT_ENOUGH

    def test_the_sum_of_nothing_is_nothing(self):
        assert add([]).estimate == 0


class TestAcceptance:
    FOUND = estimate(20_000, [sample(*[1, -1, 0, 0] * 60, size=50)])

    def test_it_needs_the_whole_90_percent_interval_within_the_margin(self):
        half = student.ppf(0.95, 120) * math.sqrt(self.FOUND.variance)
        edge = 20_000 / (20_000 - half) - 1
        assert accept(self.FOUND, edge * 1.01).accepted
        assert not accept(self.FOUND, edge * 0.99).accepted

    def test_its_error_and_interval_are_those_of_the_detector(self):
        low_count = estimate(9_000, [sample(*[1] * 100, 3, -1, size=10)], seen=0)
        accepted = accept(low_count, 0.05)
        assert accepted.error == pytest.approx(9_000 / 10_020 - 1)
        assert accepted.low < accepted.error < accepted.high < 0
        assert not accepted.accepted

    def test_too_few_samples_do_not_pass(self):
        accepted = accept(estimate(20_000, [sample(*[0] * 100)]), 0.5)
        assert (accepted.accepted, accepted.low, accepted.high) == (False, None, None)
        assert "too few samples or errors were seen (100 samples)" in accepted.sentence

    def test_frames_without_a_plan_do_not_pass(self):
        accepted = accept(estimate(20_000, [sample(*[0] * 300)], covered=False), 0.5)
        assert not accepted.accepted
        assert "the plan does not cover all frames" in accepted.sentence

    def test_the_sentence_for_a_report_has_all_numbers(self):
        assert accept(self.FOUND, 0.07).sentence == (
            "The systematic error of the count is within ±7.0%: the detector counted 20,000, people's answers on 240 "
            "random frames give 20,000; error +0.0%, 90 % interval -6.0% to +6.9% (two one-sided tests at 5 %)."
        )
        assert "is not shown to be within ±1.0%" in accept(self.FOUND, 0.01).sentence

    def test_no_objects_at_all_are_an_exact_count(self):
        assert accept(estimate(0, [sample(*[0] * 20, size=1)]), 0.05).accepted

    def test_a_count_of_what_is_not_there_is_not_accepted(self):
        accepted = accept(estimate(20, [sample(*[-1] * 20, size=1)]), 0.05)
        assert (accepted.accepted, accepted.error) == (False, math.inf)


class TestSamplesFor:
    @pytest.mark.parametrize(("rate", "tenth"), [(1.1, 120), (0.09, 1_071)])
    def test_without_answers_they_follow_from_the_rate(self, rate, tenth):
        assert samples_for(0.10, rate * 10**9, 10**9) == pytest.approx(tenth, abs=2)

    def test_they_are_never_more_than_the_frames_nor_fewer_than_120(self):
        assert samples_for(0.01, 20, 1_000) == pytest.approx(1_000, abs=1)
        assert samples_for(0.5, 5_000, 1_000) == 120
        assert samples_for(0.5, 50, 100) == 100
        assert samples_for(0.5, 0, 0) == 0

    def test_that_many_samples_give_that_width(self):
        """On the same errors, answered by more people: half the width needs four times as many."""
        first = estimate(200_000, [sample(*[1, -1, 0, 0] * 60, size=1_000)])
        wished = (first.high - first.low) / 2 / first.estimate / 2
        needed = samples_for(wished, 200_000, 240_000, first)
        second = estimate(200_000, [sample(*([1, -1, 0, 0] * needed)[:needed], size=240_000 // needed)])
        assert 900 < needed < 1_000
        assert (second.high - second.low) / 2 / second.estimate == pytest.approx(wished, rel=0.03)

    def test_small_populations_need_fewer(self):
        assert samples_for(0.10, 0.09 * 2_000, 2_000) == pytest.approx(1_071 / (1 + 1_071 / 2_000), abs=1)

    def test_half_of_the_frames_give_the_width_that_they_gave(self):
        first = estimate(2_000, [sample(*[1, -1, 0, 0] * 50, *[None] * 200, size=1)])
        width = (first.high - first.low) / 2 / first.estimate
        assert samples_for(width, 2_000, 400, first) == pytest.approx(200, abs=2)

    def test_an_estimate_that_is_not_measured_changes_nothing(self):
        nothing = estimate(1_000, [sample(1, 0)])
        assert samples_for(0.1, 1_000, 10_000, nothing) == samples_for(0.1, 1_000, 10_000)


@st.composite
def runs(draw):
    size = draw(st.integers(0, 6))
    errors = draw(st.lists(st.integers(-3, 3), max_size=size))
    return Run(size, tuple(errors), draw(st.integers(0, size - len(errors))))


STRATA = st.lists(st.lists(runs(), max_size=30).map(tuple), max_size=4)


class TestAnySample:
    @given(STRATA, st.floats(0, 1_000), st.floats(0, 1_000))
    def test_an_interval_contains_its_estimate_and_begins_at_what_people_saw(self, strata, count, seen):
        found = estimate(count, strata, seen=seen)
        if found.verdict is Verdict.MEASURED:
            assert seen <= found.low <= found.estimate <= found.high < math.inf
        else:
            assert found.low is found.high is None

    @given(STRATA)
    def test_the_order_of_strata_does_not_matter(self, strata):
        forward, backward = estimate(10, strata), estimate(10, strata[::-1])
        assert forward.verdict is backward.verdict
        assert (forward.estimate, forward.variance) == pytest.approx((backward.estimate, backward.variance))

    @given(STRATA, st.integers(0, 200))
    def test_acceptance_by_a_margin_includes_all_wider_ones(self, strata, count):
        found = estimate(count, strata)
        accepted = [accept(found, margin / 10).accepted for margin in range(1, 10)]
        assert accepted == sorted(accepted)

    @given(STRATA, st.floats(0.01, 1))
    def test_a_wished_width_needs_no_more_samples_than_frames(self, strata, width):
        found = estimate(10, strata)
        assert 0 <= samples_for(width, 10, found.frames, found) <= found.frames
