"""Estimates true counts, with their intervals, from the detector's counts and its errors on a random sample of frames.

This is the difference estimator of survey sampling. The frames of a day are a fixed population, and only the draw is
random, so frames that resemble their neighbours need no care. docs/accuracy.md has the method and its coverage.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist, mean, variance

LEAST_ERRORS = 10
ENOUGH_SAMPLES = 240
LEAST_PLANNED = 120
LEAST_DEGREES = 3
_RULE_OF_THREE = 3
# The deviation of errors relative to the mean count, by objects a frame: from a simulated day (docs/accuracy.md).
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
        size: Frames in the run.
        errors: Person minus detector, for each sample of the run that has an answer.
        unknown: Samples on which a person could not tell.
    """

    size: int
    errors: tuple[float, ...] = ()
    unknown: int = 0


@dataclass(frozen=True)
class Stratum:
    """The runs of one population, all of them, whether they have answers yet or not."""

    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Estimate:
    """A count, corrected by the errors on the samples, with its 95 % interval.

    Attributes:
        count: What the detector counted in all frames.
        correction: The estimated sum of its errors in all frames.
        variance: Of the correction.
        degrees: Degrees of freedom of the variance; 0 where it is not known.
        frames: The size of the population.
        samples: Samples with a number as the answer.
        errors_seen: Samples on which person and detector differ.
        undecided: Samples on which a person could not tell.
        below, above: How much lower or higher the estimate would be, had the undecided samples the lowest or the
            highest error seen.
        unseen: The half width for strata without any error, by the rule of three.
        seen: What people counted on the samples: the truth is no less.
        covered: False if there are frames outside the population that a further draw would cover.
    """

    count: float
    correction: float
    variance: float
    degrees: float
    frames: int
    samples: int
    errors_seen: int
    undecided: int = 0
    below: float = 0.0
    above: float = 0.0
    unseen: float = 0.0
    seen: float = 0.0
    covered: bool = True

    @property
    def estimate(self) -> float:
        """The corrected count, which is no less than what people saw on the samples."""
        return max(self.seen, self.count + self.correction)

    @property
    def low(self) -> float | None:
        """The lower end of the interval, or None without a verdict of `measured`."""
        return self.bounds(0.975)[0] if self.verdict is Verdict.MEASURED else None

    @property
    def high(self) -> float | None:
        """The upper end of the interval, or None without a verdict of `measured`."""
        return self.bounds(0.975)[1] if self.verdict is Verdict.MEASURED else None

    @property
    def verdict(self) -> Verdict:
        """`measured` from ten errors, 240 samples, or all frames on."""
        if not self.covered:
            return Verdict.NOT_COVERED
        is_census = self.samples + self.undecided >= self.frames
        enough = self.errors_seen >= LEAST_ERRORS or self.samples >= ENOUGH_SAMPLES or is_census
        return Verdict.MEASURED if enough and self.degrees >= LEAST_DEGREES else Verdict.NOT_ENOUGH

    def bounds(self, probability: float) -> tuple[float, float]:
        """Returns the two limits that the truth passes with a probability of `1 - probability` each."""
        half = math.hypot(t_quantile(probability, self.degrees) * math.sqrt(self.variance), self.unseen)
        total = self.count + self.correction
        return max(self.seen, total - half - self.below), max(self.seen, total + half + self.above)


@dataclass(frozen=True)
class Acceptance:
    """The result of an equivalence test: whether the systematic error is shown to be within the margin.

    Attributes:
        error: The detector's count relative to the estimate, minus 1.
        low, high: The 90 % interval of that error, which is what two one-sided tests at 5 % compare with the margin;
            None if the estimate has no interval.
        sentence: For a report.
    """

    accepted: bool
    margin: float
    error: float
    low: float | None
    high: float | None
    sentence: str


def estimate(count: float, strata: Sequence[Stratum], *, seen: float = 0.0, covered: bool = True) -> Estimate:
    """Corrects a count by the errors on the samples of its strata.

    Args:
        count: What the detector counted in all frames of all strata.
        seen: What people counted on the samples. `-math.inf` for a difference, which may be negative.
        covered: False if there are frames in none of the strata.
    """
    parts = [_of_stratum([run for run in stratum.runs if run.size]) for stratum in strata]
    return _sum(parts, count=count, seen=seen, covered=covered)


def add(estimates: Collection[Estimate]) -> Estimate:
    """Returns the estimate of a sum, of several days or sources: their draws are independent."""
    return _sum(
        estimates,
        count=math.fsum(part.count for part in estimates),
        seen=math.fsum(part.seen for part in estimates),
        covered=all(part.covered for part in estimates),
    )


def accept(found: Estimate, margin: float) -> Acceptance:
    """Tests whether the detector's count is within a margin of the truth: two one-sided tests at 5 %.

    A test of equivalence puts the burden of proof on the detector: few samples do not pass it. The count is within
    the margin m if the truth is within count / (1 + m) and count / (1 - m).
    """
    error = _relative(found.count, found.estimate)
    if found.verdict is not Verdict.MEASURED:
        why = "frames are not covered by the plan" if not found.covered else "too few samples or errors were seen"
        sentence = f"No statement about a margin of {margin:.1%} is possible: {why} ({found.samples} samples)."
        return Acceptance(False, margin, error, None, None, sentence)
    least, most = found.bounds(0.95)
    accepted = found.count <= (1 + margin) * least and found.count >= (1 - margin) * most
    low, high = _relative(found.count, most), _relative(found.count, least)
    shown = "is" if accepted else "is not shown to be"
    sentence = (
        f"The systematic error of the count {shown} within ±{margin:.1%}: the detector counted {found.count:,.0f}, "
        f"people's answers on {found.samples} random frames give {found.estimate:,.0f}; error {error:+.1%}, 90 % "
        f"interval {low:+.1%} to {high:+.1%} (two one-sided tests at 5 %)."
    )
    return Acceptance(accepted, margin, error, low, high, sentence)


def samples_for(width: float, count: float, frames: int, found: Estimate | None = None) -> int:
    """Returns how many samples a 95 % interval of `estimate ± width * estimate` needs.

    Args:
        width: Half the width, relative to the estimate, such as 0.1.
        count: What the detector counted in all frames.
        found: An estimate from samples that have answers; without one, deviations of a simulated day apply.
    """
    if not frames:
        return 0
    deviation = next(known for rate, known in _DEVIATIONS if count / frames >= rate)
    if found is not None and found.verdict is Verdict.MEASURED and found.variance and found.estimate > 0:
        left = 1 - found.samples / found.frames
        deviation = math.sqrt(found.variance * found.samples / left) / found.estimate
    of_many = (NormalDist().inv_cdf(0.975) * deviation / width) ** 2
    return min(frames, max(LEAST_PLANNED, math.ceil(of_many / (1 + of_many / frames))))


def t_quantile(probability: float, degrees: float) -> float:
    """Returns a quantile of Student's t distribution, for 3 and more degrees and usual probabilities to 0.2 %.

    The expansion of Cornish and Fisher: Abramowitz and Stegun, 26.7.5.
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


def _of_stratum(runs: Sequence[Run]) -> Estimate:
    """Estimates the sum of the errors of one stratum: by its runs, if each of them has an answer."""
    if any(not run.errors and not run.unknown for run in runs):
        runs = [Run(sum(run.size for run in runs), _errors(runs), sum(run.unknown for run in runs))]
    errors = _errors(runs)
    frames, undecided = sum(run.size for run in runs), sum(run.unknown for run in runs)
    if not errors:
        return Estimate(0, 0, 0, math.inf if not frames else 0, frames, 0, 0, undecided)
    means = [mean(run.errors) if run.errors else mean(errors) for run in runs]
    doubts = [run.size * run.unknown / (run.unknown + len(run.errors)) for run in runs]
    spread, degrees = _variance(runs)
    found = any(errors) or len(errors) == frames
    return Estimate(
        count=0,
        correction=math.fsum(run.size * error for run, error in zip(runs, means, strict=True)),
        variance=spread,
        degrees=degrees,
        frames=frames,
        samples=len(errors),
        errors_seen=sum(error != 0 for error in errors),
        undecided=undecided,
        below=math.fsum(doubt * (error - min(errors)) for doubt, error in zip(doubts, means, strict=True)),
        above=math.fsum(doubt * (max(errors) - error) for doubt, error in zip(doubts, means, strict=True)),
        unseen=0.0 if found else _RULE_OF_THREE * frames / len(errors),
    )


def _variance(runs: Sequence[Run]) -> tuple[float, float]:
    """Returns the variance of the sum of errors, and its degrees of freedom.

    A run with several errors has a variance of its own. Runs with one error are compared with their neighbour
    (collapsed strata), the last three of an odd number with each other.
    """
    if all(len(run.errors) + run.unknown >= run.size for run in runs):
        return 0.0, math.inf
    several = [run for run in runs if len(run.errors) > 1]
    single = [run for run in runs if len(run.errors) == 1]
    total, degrees = 0.0, 0
    for run in several:
        number = len(run.errors)
        total += run.size * (run.size - number) * variance(run.errors) / number
        degrees += number - 1
    starts = list(range(0, len(single) - 1, 2))
    for start in starts:
        group = single[start:] if start == starts[-1] else single[start : start + 2]
        size = mean(run.size for run in group)
        total += len(group) * size * (size - 1) * variance(_errors(group))
        degrees += len(group) - 1
    if len(single) == 1:
        errors = _errors(runs)
        size = single[0].size
        total += size * (size - 1) * variance(errors) if len(errors) > 1 else math.nan
    return (total, degrees) if degrees else (0.0, 0)


def _sum(parts: Collection[Estimate], *, count: float, seen: float, covered: bool) -> Estimate:
    return Estimate(
        count=count,
        correction=math.fsum(part.correction for part in parts),
        variance=math.fsum(part.variance for part in parts),
        degrees=_degrees(parts),
        frames=sum(part.frames for part in parts),
        samples=sum(part.samples for part in parts),
        errors_seen=sum(part.errors_seen for part in parts),
        undecided=sum(part.undecided for part in parts),
        below=math.fsum(part.below for part in parts),
        above=math.fsum(part.above for part in parts),
        unseen=math.hypot(*(part.unseen for part in parts)),
        seen=seen,
        covered=covered,
    )


def _degrees(parts: Collection[Estimate]) -> float:
    """Returns the degrees of freedom of a sum of variances, after Satterthwaite (1946)."""
    if any(part.degrees == 0 for part in parts):
        return 0
    total = math.fsum(part.variance for part in parts)
    doubt = math.fsum(part.variance**2 / part.degrees for part in parts)
    return total**2 / doubt if doubt else max((part.degrees for part in parts), default=0)


def _errors(runs: Sequence[Run]) -> tuple[float, ...]:
    return tuple(error for run in runs for error in run.errors)


def _relative(count: float, truth: float) -> float:
    if truth > 0:
        return count / truth - 1
    return 0.0 if count == 0 else math.inf
