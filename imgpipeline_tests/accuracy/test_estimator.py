import math

import pytest
from scipy.stats import t as student

from imgpipeline.accuracy.estimator import Run, Stratum, Verdict, accept, add, estimate, samples_for, t_quantile


def sample(*errors, size=10):
    """One stratum: a run of `size` frames for each error; None is a run without an answer."""
    return Stratum(tuple(Run(size, () if error is None else (error,)) for error in errors))


def test_the_count_is_corrected_by_the_mean_error_of_each_run():
    found = estimate(100, [sample(*[1, 0, -1, 2] * 5)])
    assert found.estimate == 100 + 10 * (1 + 0 - 1 + 2) * 5
    assert (found.samples, found.errors_seen, found.frames) == (20, 15, 200)


def test_neighbouring_runs_give_the_variance():
    found = estimate(100, [sample(3, 1, 0, 4)])
    assert found.variance == pytest.approx((1 - 1 / 10) * 10**2 * ((3 - 1) ** 2 + (0 - 4) ** 2))
    assert found.degrees == pytest.approx(2)


@pytest.mark.parametrize("probability", [0.95, 0.975])
@pytest.mark.parametrize("degrees", [3, 4, 5, 7.5, 20, 120, math.inf])
def test_quantiles_are_those_of_students_t(probability, degrees):
    assert t_quantile(probability, degrees) == pytest.approx(student.ppf(probability, degrees), rel=2e-3)


def test_too_few_errors_give_no_interval():
    few = estimate(100, [sample(*[1] * 9, *[0] * 100)])
    assert (few.verdict, few.low, few.high) == (Verdict.NOT_ENOUGH, None, None)
    assert estimate(100, [sample(*[1] * 10, *[0] * 100)]).verdict is Verdict.MEASURED
    assert estimate(100, [sample(*[1] * 9, *[0] * 231)]).verdict is Verdict.MEASURED


def test_an_acceptance_needs_the_whole_interval_within_the_margin():
    found = estimate(20_000, [sample(*[1, -1, 0, 0] * 60, size=50)])
    assert accept(found, 0.10).accepted
    assert not accept(found, 0.001).accepted


def test_the_sum_of_sources_adds_their_variances():
    yard, gate = estimate(500, [sample(*[1, -1] * 10)]), estimate(300, [sample(*[2, 0] * 10)])
    both = add([yard, gate])
    assert both.estimate == yard.estimate + gate.estimate
    assert both.variance == yard.variance + gate.variance


def test_a_narrower_interval_needs_more_samples():
    assert samples_for(0.05, 17_280, 17_280) > samples_for(0.10, 17_280, 17_280) >= 120
