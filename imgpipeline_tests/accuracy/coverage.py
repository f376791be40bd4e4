"""How often the interval of an estimate contains the truth, over thousands of draws from a day whose truth is known.

The draws are computed as arrays, because `estimate` itself would need minutes for them. `compared` passes some of the
same samples to `estimate`, so that a test can compare both.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgpipeline.accuracy.estimator import ENOUGH_SAMPLES, LEAST_ERRORS, Estimate, Run, estimate, t_quantile
from imgpipeline.accuracy.sampling import run_bounds
from imgpipeline_tests.accuracy.days import SimulatedDay

DRAWS = 2_000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """The samples of many draws, one draw a row, and what follows from each draw.

    Attributes:
        total: The estimated sum of the errors.
        half: Half the width of the interval, where `is_published`.
    """

    errors: Floats
    seen: Floats
    sizes: NDArray[np.int64]
    total: Floats
    half: Floats
    is_published: NDArray[np.bool_]

    def coverage(self, day: SimulatedDay) -> float:
        """The share of the published intervals that contain the truth."""
        is_in = np.abs(self.total - day.errors.sum()) <= self.half
        return float(is_in[self.is_published].mean()) if self.is_published.any() else float("nan")

    def width(self, day: SimulatedDay) -> float:
        """The median of half the width, relative to the truth."""
        return float(np.median(self.half[self.is_published]) / day.true.sum()) if self.is_published.any() else np.nan


def draw_by_runs(day: SimulatedDay, samples: int, seed: int, draws: int = DRAWS) -> Drawn:
    """Draws one frame of each run, and estimates by pairs of runs. Their number is even, and none is a single frame."""
    sizes, errors, seen = _one_of_each_run(day, samples, seed, draws)
    pair_sizes = (sizes[::2] + sizes[1::2]) / 2
    differences = errors[:, ::2] - errors[:, 1::2]
    variance = (differences**2 * pair_sizes**2).sum(axis=1)
    return _drawn(errors, seen, sizes, (errors * sizes).sum(axis=1), variance, samples / 2)


def draw_prefix(day: SimulatedDay, planned: int, answered: int, seed: int, draws: int = DRAWS) -> Drawn:
    """Draws as `draw_by_runs`, but people stopped after some of the samples, which come in random order."""
    sizes, errors, seen = _one_of_each_run(day, planned, seed, draws)
    order = np.argsort(np.random.default_rng(seed + 1).uniform(size=errors.shape), axis=1)[:, :answered]
    errors, seen = (np.take_along_axis(values, order, axis=1) for values in (errors, seen))
    return simple(day, errors, seen, sizes)


def coverage_of_the_first_intervals(day: SimulatedDay, planned: int, seed: int) -> float:
    """Returns the coverage if people stop at the first answer after which there is an interval."""
    drawn = draw_prefix(day, planned, ENOUGH_SAMPLES, seed)
    has_interval = (drawn.errors != 0).cumsum(axis=1) >= LEAST_ERRORS
    has_interval[:, -1] = True
    first = [
        simple(day, drawn.errors[[row], : answers + 1], drawn.seen[[row], : answers + 1], drawn.sizes)
        for row, answers in enumerate(has_interval.argmax(axis=1))
    ]
    return float(np.mean([one.coverage(day) for one in first]))


def draw_consecutive(day: SimulatedDay, samples: int, seed: int, draws: int = DRAWS) -> Drawn:
    """Takes consecutive frames from a random start, and treats them as a simple random sample."""
    starts = np.random.default_rng(seed).integers(0, len(day.true) - samples, draws)
    chosen = starts[:, None] + np.arange(samples)
    sizes = np.array([stop - start for start, stop in run_bounds(len(day.true), samples)])
    return simple(day, day.errors[chosen].astype(float), day.true[chosen].astype(float), sizes)


def draw_by_count(day: SimulatedDay, samples: int, seed: int, draws: int = DRAWS) -> Drawn:
    """Chooses frames with a probability in proportion to the detector's count, and weights them by its inverse."""
    chances = day.detected / day.detected.sum()
    chosen = np.random.default_rng(seed).choice(len(chances), size=(draws, samples), p=chances)
    weighted = day.errors[chosen] / chances[chosen]
    variance = weighted.var(axis=1, ddof=1) / samples
    return _drawn(day.errors[chosen], day.true[chosen], chosen[0], weighted.mean(axis=1), variance, samples - 1)


def simple(day: SimulatedDay, errors: Floats, seen: Floats, sizes: NDArray[np.int64]) -> Drawn:
    """Estimates as from a simple random sample."""
    frames, samples = len(day.true), errors.shape[1]
    variance = frames * (frames - samples) * errors.var(axis=1, ddof=1) / samples
    return _drawn(errors, seen, sizes, frames * errors.mean(axis=1), variance, samples - 1)


def compared(day: SimulatedDay, drawn: Drawn, number: int) -> Iterator[tuple[Estimate, float, float]]:
    """Yields the estimate of each of the first draws, beside the total and half width that the arrays have for it."""
    for row in range(number):
        errors = [(float(error),) for error in drawn.errors[row]]
        errors += [()] * (len(drawn.sizes) - len(errors))
        runs = tuple(Run(int(size), of_run) for size, of_run in zip(drawn.sizes, errors, strict=True))
        found = estimate(float(day.detected.sum()), [(runs)], seen=float(drawn.seen[row].sum()))
        yield found, float(day.detected.sum() + drawn.total[row]), float(drawn.half[row])


def _one_of_each_run(
    day: SimulatedDay, samples: int, seed: int, draws: int
) -> tuple[NDArray[np.int64], Floats, Floats]:
    starts, stops = np.array(run_bounds(len(day.true), samples)).T
    chosen = np.random.default_rng(seed).integers(starts, stops, size=(draws, samples))
    return stops - starts, day.errors[chosen].astype(float), day.true[chosen].astype(float)


def _drawn(
    errors: Floats, seen: Floats, sizes: NDArray[np.int64], total: Floats, variance: Floats, degrees: float
) -> Drawn:
    frames, samples = sizes.sum(), errors.shape[1]
    differing = (errors != 0).sum(axis=1)
    half = np.hypot(t_quantile(0.975, degrees) * np.sqrt(variance), np.where(variance, 0, 3 * frames / samples))
    is_published = (differing >= LEAST_ERRORS) | (samples >= ENOUGH_SAMPLES)
    return Drawn(errors, seen, sizes, total, half, is_published)
