"""Estimates true counts, with their intervals, from the detector's counts and its errors on a random sample of frames.

This is the difference estimator of survey sampling. The frames of a day are a fixed population, and only the draw is
random, so frames that resemble their neighbours need no care. docs/accuracy.md has the method and its coverage.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist, fmean

LEAST_ERRORS = 10
ENOUGH_SAMPLES = 240
LEAST_PLANNED = 120
LEAST_DEGREES = 3
# By objects a frame: the deviation of the errors, relative to the mean count, of a simulated day (docs/accuracy.md).
_DEVIATIONS = ((0.5, 0.40), (0.05, 1.67), (0.0, 5.8))


class Verdict(StrEnum):
    """Whether an estimate has an interval, and if not, why."""

    MEASURED = "measured"
    NOT_ENOUGH = "not_enough"
    NOT_COVERED = "not_covered"


@dataclass(frozen=True)
class Run:
    """One of the equal runs of a population.

    Attributes:
        errors: Person minus detector, for each sample of the run that has a number as its answer.
        unknown: Samples on which a person could not tell.
    """

    size: int
    errors: tuple[float, ...] = ()
    unknown: int = 0


@dataclass(frozen=True)
class Estimate:
    """A count of all frames, corrected by the errors on the samples.

    Attributes:
        correction: The estimated sum of the errors in all frames.
        variance: Of the correction.
        degrees: Degrees of freedom of the variance; 0 where it is not known.
        frames: The size of the population.
        below, above: How much lower or higher the estimate would be if the undecided samples had the lowest or the
            highest error seen, or none.
        unseen: The half width of strata in which no error differs from its neighbours, by the rule of three.
        seen: What people counted on the samples: the truth is no less.
        covered: False if there are frames that no draw covers yet.
    """

    count: float
    correction: float
    variance: float
    degrees: float
    frames: int
    samples: int
    errors_seen: int
    undecided: int
    below: float = 0.0
    above: float = 0.0
    unseen: float = 0.0
    seen: float = 0.0
    covered: bool = True

    @property
    def estimate(self) -> float:
        """The corrected count."""
        return max(self.seen, self.count + self.correction)

    @property
    def low(self) -> float | None:
        """The lower end of the 95 % interval; None without a verdict of `measured`."""
        return self.bounds(0.975)[0] if self.verdict is Verdict.MEASURED else None

    @property
    def high(self) -> float | None:
        """The upper end of the 95 % interval; None without a verdict of `measured`."""
        return self.bounds(0.975)[1] if self.verdict is Verdict.MEASURED else None

    @property
    def verdict(self) -> Verdict:
        """`measured` from ten errors or 240 samples on, or if people counted all frames."""
        if not self.covered:
            return Verdict.NOT_COVERED
        is_census = self.samples >= self.frames
        is_enough = self.errors_seen >= LEAST_ERRORS or self.samples >= ENOUGH_SAMPLES or is_census
        return Verdict.MEASURED if is_enough and self.degrees >= LEAST_DEGREES else Verdict.NOT_ENOUGH

    def bounds(self, probability: float) -> tuple[float, float]:
        """Returns two limits; the truth lies beyond each of them with a probability of `1 - probability`."""
        half = math.hypot(t_quantile(probability, self.degrees) * math.sqrt(self.variance), self.unseen)
        total = self.count + self.correction
        return max(self.seen, total - half - self.below), max(self.seen, total + half + self.above)


@dataclass(frozen=True)
class Acceptance:
    """Whether the systematic error is shown to be within the margin.

    Attributes:
        error: The detector's count relative to the estimate, minus 1.
        low, high: The 90 % interval of the error, which is what two one-sided tests at 5 % compare with the margin;
            None if the estimate has no interval.
    """

    accepted: bool
    margin: float
    error: float
    low: float | None
    high: float | None
    sentence: str


def estimate(count: float, strata: Sequence[Sequence[Run]], *, seen: float = 0.0, covered: bool = True) -> Estimate:
    """Corrects the detector's count in all frames by the errors on the samples.

    Args:
        strata: The runs of each population, whether they have answers yet or not.
        seen: What people counted on the samples; `-math.inf` for a difference, which may be negative.
        covered: False if there are frames in none of the strata.
    """
    populations = [[run for run in stratum if run.size] for stratum in strata]
    found = add([_correction(runs) for runs in populations if runs])
    return replace(found, count=count, seen=seen, covered=covered)


def add(estimates: Collection[Estimate]) -> Estimate:
    """Returns the estimate of a sum, such as of several days or sources, whose draws are independent."""
    return Estimate(
        count=math.fsum(part.count for part in estimates),
        correction=math.fsum(part.correction for part in estimates),
        variance=math.fsum(part.variance for part in estimates),
        degrees=_degrees(estimates),
        frames=sum(part.frames for part in estimates),
        samples=sum(part.samples for part in estimates),
        errors_seen=sum(part.errors_seen for part in estimates),
        undecided=sum(part.undecided for part in estimates),
        below=math.fsum(part.below for part in estimates),
        above=math.fsum(part.above for part in estimates),
        unseen=math.hypot(*(part.unseen for part in estimates)),
        seen=math.fsum(part.seen for part in estimates),
        covered=all(part.covered for part in estimates),
    )


def accept(found: Estimate, margin: float, units: str = "frames") -> Acceptance:
    """Tests whether the detector's count is within a margin of the truth, by two one-sided tests at 5 %.

    The test of equivalence leaves the burden of proof with the detector: too few samples do not pass it.
    """
    error = _relative(found.count, found.estimate)
    if found.verdict is not Verdict.MEASURED:
        why = "too few samples or errors were seen" if found.covered else "the plan does not cover all frames"
        sentence = f"No statement about a margin of {margin:.1%} is possible: {why} ({found.samples} samples)."
        return Acceptance(False, margin, error, None, None, sentence)
    least, most = found.bounds(0.95)
    low, high = _relative(found.count, most), _relative(found.count, least)
    accepted = -margin <= low and high <= margin
    sentence = (
        f"The systematic error of the count {'is' if accepted else 'is not shown to be'} within ±{margin:.1%}: the "
        f"detector counted {found.count:,.0f}, people's answers on {found.samples} random {units} give "
        f"{found.estimate:,.0f}; error {error:+.1%}, 90 % interval {low:+.1%} to {high:+.1%} (two one-sided tests "
        "at 5 %)."
    )
    return Acceptance(accepted, margin, error, low, high, sentence)


def samples_for(width: float, count: float, frames: int, found: Estimate | None = None) -> int:
    """Returns how many samples a 95 % interval needs.

    Args:
        width: Half the width, relative to the estimate.
        count: What the detector counted in all frames.
        found: What the answers give so far; without it, the deviations of a simulated day apply.
    """
    if not frames:
        return 0
    deviation = next(known for rate, known in _DEVIATIONS if count / frames >= rate)
    if found is not None and found.verdict is Verdict.MEASURED and found.variance and found.estimate > 0:
        of_one = found.variance * found.samples / (1 - found.samples / found.frames)
        deviation = math.sqrt(of_one) / found.estimate
    of_many = (NormalDist().inv_cdf(0.975) * deviation / width) ** 2
    return min(frames, max(LEAST_PLANNED, math.ceil(of_many / (1 + of_many / frames))))


def t_quantile(probability: float, degrees: float) -> float:
    """Returns a quantile of Student's t distribution: from 3 degrees on, to 0.2 %.

    The expansion is number 26.7.5 of Abramowitz and Stegun.
    """
    x = NormalDist().inv_cdf(probability)
    terms = (
        x,
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))


def _correction(runs: Sequence[Run]) -> Estimate:
    """Estimates the sum of the errors in one population: by its runs if all have answers, and else as one run."""
    if any(not run.errors and not run.unknown for run in runs):
        runs = [_joined(runs)]
    whole = _joined(runs)
    frames, errors, undecided = whole.size, whole.errors, whole.unknown
    if not errors:
        return Estimate(0, 0, 0, 0, frames, 0, 0, undecided)
    variance, degrees = _variance(runs)
    doubtful = min(frames * undecided / (undecided + len(errors)), frames - len(errors))
    return Estimate(
        count=0,
        correction=math.fsum(run.size * fmean(run.errors or errors) for run in runs),
        variance=variance,
        degrees=degrees if variance or len(errors) + undecided < frames else math.inf,
        frames=frames,
        samples=len(errors),
        errors_seen=sum(error != 0 for error in errors),
        undecided=undecided,
        below=doubtful * (fmean(errors) - min(0, *errors)),
        above=doubtful * (max(0, *errors) - fmean(errors)),
        unseen=0.0 if variance or len(errors) >= frames else 3 * frames / len(errors),
    )


def _variance(runs: Sequence[Run]) -> tuple[float, float]:
    """Returns the variance of the sum of errors, and its degrees of freedom.

    Runs with several answers have a variance of their own. The others are compared with their neighbour (collapsed
    strata). This is too much by the difference of their means, which a factor for the finite population, as in a simple
    random sample, would take back only if frames were in random order.
    """
    own = [run for run in runs if len(run.errors) > 1 or len(run.errors) == run.size]
    single = [run for run in runs if len(run.errors) == 1 < run.size]
    groups = [_joined(single[start : start + 2]) for start in range(0, len(single), 2)]
    if len(single) % 2:
        partner = groups[-2:-1] or own[-1:]
        groups[-2:] = [_joined([*partner, groups[-1]])]
    total = math.fsum(run.size * (run.size - len(run.errors)) * _scatter(run) for run in own)
    total += math.fsum(group.size**2 * _scatter(group) for group in groups)
    answered = [run for run in runs if run.errors]
    weight = sum(run.size for run in runs) / sum(run.size for run in answered)
    return total * weight**2, sum(len(run.errors) for run in answered) - len(own) - len(groups)


def _joined(runs: Sequence[Run]) -> Run:
    errors = tuple(error for run in runs for error in run.errors)
    return Run(sum(run.size for run in runs), errors, sum(run.unknown for run in runs))


def _scatter(run: Run) -> float:
    """Returns the variance of the mean error of a run."""
    center, samples = fmean(run.errors), len(run.errors)
    return math.fsum((error - center) ** 2 for error in run.errors) / max(1, samples - 1) / samples


def _degrees(parts: Collection[Estimate]) -> float:
    """Returns the degrees of freedom of a sum of variances, after Satterthwaite (1946)."""
    if any(part.degrees == 0 for part in parts):
        return 0
    doubt = math.fsum(part.variance**2 / part.degrees for part in parts)
    total = math.fsum(part.variance for part in parts)
    return total**2 / doubt if doubt else max((part.degrees for part in parts), default=0)


def _relative(count: float, truth: float) -> float:
    if truth > 0:
        return count / truth - 1
    return 0.0 if count == 0 else math.inf
