"""Compares the answers of people with the detections of a day, and divides its frames as a plan does.

A frame belongs to the first draw whose ends lie after its offset, and there to a run by its time. Both stay the same
when the day grows, is processed again or is repaired.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date
from typing import Any

from imgpipeline.accuracy.answers import Answer
from imgpipeline.accuracy.estimator import Estimate, Run, estimate
from imgpipeline.accuracy.plans import Plan, Population
from imgpipeline.contracts.keys import ChainId

Ask = Callable[[str, Mapping[str, object]], list[tuple[Any, ...]]]
"""Runs a query over `frames`, `detections` and `label_counts`, such as `Engine.run`."""
WHOLE_DAY = "day"
PARTS = ("00-06", "06-12", "12-18", "18-24")
"""Parts of the UTC day."""
LEAST_OF_PART = 60
"""Least counted samples in a part of the day for an estimate of its own."""
_PART = """CAST(hour(CAST("timestamp" AS TIMESTAMP)) // 6 AS INTEGER) AS part"""

# `run` is NULL for a frame that no draw is about.
_PLACED = f"""
WITH given AS (
    SELECT frame_id, "timestamp", source_kafka_offset AS "offset", {_PART},
        source_kafka_topic || '/' || source_kafka_topic_id || '/' || source_kafka_partition AS chain
    FROM frames WHERE day = $day AND source = $source AND status = 'processed'),
ends AS (
    SELECT unnest($strata::INTEGER[]) AS stratum, unnest($chains::VARCHAR[]) AS chain, unnest($ends::BIGINT[]) AS stop),
starts AS (
    SELECT unnest($of_runs::INTEGER[]) AS stratum, unnest($runs::INTEGER[]) AS run,
        {{'at': unnest($times::TIMESTAMPTZ[]), 'id': unnest($ids::VARCHAR[])}} AS start),
below AS (
    SELECT frame_id, "timestamp", part, min(stratum) FILTER ("offset" < stop) AS stratum
    FROM given LEFT JOIN ends USING (chain) GROUP BY frame_id, "timestamp", part),
placed AS (
    SELECT frame_id, "timestamp", part, run FROM below ASOF LEFT JOIN starts
    ON below.stratum = starts.stratum AND {{'at': "timestamp", 'id': frame_id}} >= start),
counted AS (
    SELECT frame_id, label, {_PART} FROM detections
    WHERE day = $day AND source = $source AND confidence >= $threshold)
"""  # noqa: S608 - own SQL
_FRAMES = f'{_PLACED} SELECT run, "timestamp", frame_id FROM placed ORDER BY "timestamp", frame_id'  # noqa: S608 - own SQL
_SIZES = f"{_PLACED} SELECT run, part, count(*) FROM placed GROUP BY run, part"  # noqa: S608 - own SQL
_COUNTS = f"{_PLACED} SELECT label, part, count(*) FROM counted GROUP BY label, part"  # noqa: S608 - own SQL
_SAMPLES = f"""{_PLACED}
SELECT frame_id, placed.run, placed.part, label, count(label) FROM placed LEFT JOIN counted USING (frame_id)
WHERE frame_id IN (SELECT unnest($samples::VARCHAR[])) GROUP BY ALL
"""  # noqa: S608 - own SQL
_LABELS = "SELECT DISTINCT label FROM label_counts WHERE day = $day AND source = $source"


@dataclass(frozen=True)
class AccuracyRow:
    """What people's answers say about one label of a source, on a day or in a part of it.

    Attributes:
        part: `day`, or one of `PARTS`.
        agreement: The share of the frames counted by two people on which they agree; None without such frames.
        line: The line whose crossings people count; None if they count objects in frames.
    """

    day: date
    source: str
    label: str
    part: str
    agreement: float | None
    found: Estimate
    line: str | None = None

    def to_record(self) -> dict[str, Any]:
        """Returns all values by the names of the columns of the table `accuracy`."""
        found = self.found
        shown = {"estimate": found.estimate, "low": found.low, "high": found.high, "verdict": str(found.verdict)}
        named = {"day": self.day, "source": self.source, "label": self.label, "part": self.part, "line": self.line}
        return {**named, "agreement": self.agreement, **asdict(found), **shown}


@dataclass(frozen=True, slots=True)
class _Sample:
    """A sample that is still in its run: what the model found there, and the answers of people."""

    run: int
    part: int
    found: dict[str, int]
    answers: list[Answer]
    other: Mapping[str, int] | None = None
    """What the model found that this one is compared with."""

    def error(self, label: str, counted: int) -> float:
        """Returns the error, or how much larger its size is than that of the other model."""
        error = counted - self.found.get(label, 0)
        return error if self.other is None else abs(error) - abs(counted - self.other.get(label, 0))

    def counts(self, label: str) -> list[int]:
        """Returns what each person who could tell counted."""
        return [answer.counts.get(label, 0) for answer in self.answers if not answer.cannot_tell]


def read_population(ask: Ask, day: date, source: str, ends: Mapping[ChainId, int], plan: Plan | None) -> Population:
    """Returns the processed frames of a source and day by the runs of its plan.

    Args:
        ask: Queries tables that show all frames up to the ends.
        ends: The ends of the chains.
    """
    runs: defaultdict[int | None, list[str]] = defaultdict(list)
    later = []
    for run, at, frame_id in ask(_FRAMES, _places(day, source, plan)):
        runs[run].append(frame_id)
        if run is None:
            later.append((at.astimezone(UTC), frame_id))
    drawn = {run: frames for run, frames in runs.items() if run is not None}
    labels = [label for (label,) in ask(_LABELS, {"day": day, "source": source})]
    return Population(day, source, {str(chain): end for chain, end in ends.items()}, drawn, later, labels)


def measure(
    ask: Ask, plan: Plan, answers: Sequence[Answer], threshold: float, other: Ask | None = None
) -> list[AccuracyRow]:
    """Estimates the true count of each label of a plan: on its day, and in the parts of the day with enough samples.

    Args:
        ask: Queries `frames` and `detections` that include the plan's day.
        answers: As `read_answers` returns them.
        threshold: Count only detections of this confidence, as summaries do (`summary_threshold`).
        other: Queries the same `frames`, and `detections` of another model. The corrections are then how many more
            objects the first model miscounts, added up frame by frame.
    """
    asked = _places(plan.day, plan.source, plan) | {"threshold": threshold}
    sizes = {(run, part): frames for run, part, frames in ask(_SIZES, asked)}
    counts = {(label, part): count for label, part, count in ask(_COUNTS, asked)}
    samples = _read_samples(ask, plan, answers, asked)
    if other:
        of_other = _read_samples(other, plan, answers, asked)
        samples = {frame_id: replace(sample, other=of_other[frame_id].found) for frame_id, sample in samples.items()}
    told = Counter(sample.part for sample in samples.values() if sample.answers and not sample.answers[0].cannot_tell)
    parts = [part for part in range(len(PARTS)) if told[part] >= LEAST_OF_PART]
    given = list(samples.values())
    return [_row(plan, label, part, sizes, counts, given) for label in plan.labels for part in (None, *parts)]


def changed_frames(ask: Ask, plan: Plan) -> tuple[int, int, int]:
    """Returns how many frames a plan is not about yet, how many of its frames are gone, and how many came since."""
    sizes: Counter[int | None] = Counter()
    for run, _, frames in ask(_SIZES, _places(plan.day, plan.source, plan)):
        sizes[run] += frames
    drawn = enumerate(size for draw in plan.strata for size in draw.sizes)
    gains = [sizes[run] - size for run, size in drawn]
    return sizes[None], -sum(gain for gain in gains if gain < 0), sum(gain for gain in gains if gain > 0)


def _places(day: date, source: str, plan: Plan | None) -> dict[str, object]:
    """Returns the parameters of `_PLACED`, without the threshold, which counts."""
    strata, starts = (plan.strata, plan.starts) if plan else ([], [])
    ends = [(number, *end) for number, draw in enumerate(strata) for end in draw.ends.items()]
    return {
        "day": day, "source": source, "threshold": 0.0,
        "strata": [number for number, _, _ in ends],
        "chains": [chain for _, chain, _ in ends],
        "ends": [end for _, _, end in ends],
        "of_runs": [stratum for stratum, _, _ in starts],
        "runs": list(range(len(starts))),
        "times": [at for _, at, _ in starts],
        "ids": [frame_id for _, _, frame_id in starts],
    }  # fmt: skip


def _read_samples(ask: Ask, plan: Plan, answers: Sequence[Answer], asked: dict[str, object]) -> dict[str, _Sample]:
    given: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        given[answer.frame_id].append(answer)
    samples: dict[str, _Sample] = {}
    for frame_id, run, part, label, count in ask(_SAMPLES, asked | {"samples": list(plan.run_of)}):
        if run == plan.run_of[frame_id]:
            sample = samples.setdefault(frame_id, _Sample(run, part, {}, given[frame_id]))
            sample.found.update({label: count} if label else {})
    return samples


def _row(
    plan: Plan,
    label: str,
    part: int | None,
    sizes: Mapping[tuple[int | None, int], int],
    counts: Mapping[tuple[str, int], int],
    samples: Sequence[_Sample],
) -> AccuracyRow:
    """Estimates one label. In a part of the day, the errors of samples outside it are 0: nobody miscounted there."""
    errors: defaultdict[int, list[float]] = defaultdict(list)
    gone = Counter(plan.run_of.values())
    gone.subtract(sample.run for sample in samples)
    seen, agreements = 0, []
    for sample in (sample for sample in samples if sample.answers):
        counted, is_inside = sample.counts(label), part in (None, sample.part)
        if not is_inside:
            errors[sample.run].append(0.0)
        elif sample.answers[0].cannot_tell:
            gone[sample.run] += 1
        else:
            seen += counted[0]
            errors[sample.run].append(float(sample.error(label, counted[0])))
        if is_inside and len(counted) > 1:
            agreements.append(counted[0] == counted[1])
    inside = {run for run, of in sizes if part in (None, of)}
    frames: Counter[int | None] = Counter()
    for (run, _), size in sizes.items():
        frames[run] += size if run in inside else 0
    strata: list[list[Run]] = [[] for _ in plan.strata]
    for run, (stratum, _, _) in enumerate(plan.starts):
        strata[stratum].append(Run(frames[run], tuple(errors[run]), gone[run]))
    count = sum(found for (of, where), found in counts.items() if of == label and part in (None, where))
    found = estimate(count, strata, seen=seen, covered=None not in inside)
    agreement = sum(agreements) / len(agreements) if agreements else None
    named = WHOLE_DAY if part is None else PARTS[part]
    return AccuracyRow(plan.day, plan.source, label, named, agreement, found, plan.line_name)
