"""The numbers of a day's report, out of a query session.

Owns the questions and their answers as values. It promises that every number comes from a summary of the day (or, for
models and their times, from the day's frames), so that it is the number which `imgpipeline summary` and `query` give.
How they are shown belongs to `page` and `charts`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from imgpipeline.lake.session import LakeSession
from imgpipeline.reports.headline import HOURS, LabelHours

_Bin = TypeVar("_Bin")

_LABEL_HOURS = """
SELECT label, hour(hour), count, distinct_frames, first_seen, last_seen, mean_confidence::DOUBLE,
       min_confidence::DOUBLE, max_confidence::DOUBLE
FROM label_counts ORDER BY label, hour
"""
_FRAME_HOURS = """
SELECT source, hour(hour), processed, gated, dead_letters, coalesce(size_bytes, 0), sizes, brightness, sharpness,
       latency, dimensions
FROM frame_stats
"""
"""Asked once: in a session the summary is made anew for each query."""
_SOURCES = """
SELECT source, frames, processed, gated, dead_letters, first_seen, last_seen, active_hours, longest_pause_s::DOUBLE,
       size_bytes
FROM source_activity ORDER BY frames DESC, dead_letters DESC, source
"""
_MODELS = """
SELECT model_used, coalesce(model_sha256, '') AS sha256, confidence_threshold, nms_threshold, count(*),
       min("timestamp"), max("timestamp"), max(processing_timestamp)
FROM frames WHERE status = 'processed' AND model_used <> ''
GROUP BY ALL ORDER BY min("timestamp"), model_used, sha256, confidence_threshold, nms_threshold
"""


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One label of the day."""

    label: str
    """Class name."""
    hours: tuple[int, ...]
    """Detections in each of the 24 hours (UTC)."""
    frames: int
    """Frames it was seen in."""
    first_seen: datetime
    """Time of the first frame with it, UTC."""
    last_seen: datetime
    """Time of the last frame with it, UTC."""
    mean_confidence: float
    """Mean confidence, 0 to 1."""
    min_confidence: float
    """Lowest confidence, 0 to 1."""
    max_confidence: float
    """Highest confidence, 0 to 1."""

    @property
    def total(self) -> int:
        """Detections of the day."""
        return sum(self.hours)


@dataclass(frozen=True, slots=True)
class FrameHours:
    """The frames of all sources, or of one, over the 24 hours (UTC)."""

    processed: tuple[int, ...]
    """Frames that a detector looked at."""
    gated: tuple[int, ...]
    """Frames that were left out before detection."""
    dead_letters: tuple[int, ...]
    """Dead letters, without those whose records are of another day than they are listed under."""

    @property
    def frames(self) -> tuple[int, ...]:
        """Processed and gated frames."""
        return tuple(a + b for a, b in zip(self.processed, self.gated, strict=True))


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """One source of the day."""

    source: str
    """The camera, video or folder; empty where dead letters named none."""
    hours: FrameHours
    """Its frames by hour."""
    first_seen: datetime | None
    """Time of its first frame, UTC; None where it had dead letters only."""
    last_seen: datetime | None
    """Time of its last frame, UTC."""
    active_hours: int
    """Hours with at least one frame."""
    longest_pause_s: float | None
    """Longest time between two of its frames, in seconds; None where there are fewer than two."""
    dead_letters: int
    """Its dead letters, also those that belong to no hour."""
    size_bytes: int
    """Size of its encoded images."""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """One model with its thresholds, as it was used on the day."""

    name: str
    """Name in the registry."""
    sha256: str
    """SHA-256 of the model file."""
    confidence_threshold: float | None
    """Detections have a confidence above this."""
    nms_threshold: float | None
    """Overlap (IoU) above which the weaker of two boxes was dropped."""
    frames: int
    """Frames it looked at."""
    first_frame: datetime
    """Time of the first of them, UTC."""
    last_frame: datetime
    """Time of the last of them, UTC."""
    processed_until: datetime
    """When the last of them was processed, UTC."""


Histogram = tuple[tuple[float, int], ...]
"""Lower bounds of the bins that have frames, each with its frames; sorted."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All numbers of a day."""

    labels: tuple[LabelFigures, ...]
    """Most frequent first."""
    hours: FrameHours
    """Frames of all sources by hour."""
    sources: tuple[SourceFigures, ...]
    """Those with most frames first."""
    size_bytes: int
    """Size of all encoded images."""
    sizes: Histogram
    """Encoded sizes in bytes, by powers of two."""
    brightness: Histogram
    """Mean luma, in bins of 16."""
    sharpness: Histogram
    """Variance of the Laplacian, by powers of two; 0 for less than 1."""
    latency: Histogram
    """Seconds from a frame's own time to its outcome, by powers of two."""
    dimensions: tuple[tuple[str, int], ...]
    """Sizes in pixels such as `640x360`, each with its frames; most frequent first."""
    models: tuple[ModelUse, ...]
    """In the order of their first frames."""

    @property
    def frames(self) -> int:
        """Frames of the day."""
        return sum(self.hours.frames)

    @property
    def dead_letters(self) -> int:
        """Dead letters that are listed under the day."""
        return sum(source.dead_letters for source in self.sources)

    @property
    def detections(self) -> int:
        """Detections of the day."""
        return sum(label.total for label in self.labels)

    @property
    def detection_hours(self) -> tuple[int, ...]:
        """Detections in each of the 24 hours."""
        return tuple(sum(label.hours[hour] for label in self.labels) for hour in range(HOURS))

    @property
    def busiest_hour(self) -> int | None:
        """The hour with most detections, without any that with most frames; the earliest of several."""
        for hours in (self.detection_hours, self.hours.frames):
            if any(hours):
                return hours.index(max(hours))
        return None

    def top_labels(self, most: int) -> tuple[LabelHours, ...]:
        """Returns the most frequent labels by hour, and the sum of the others, if any, under an empty name."""
        shown = [LabelHours(label.label, label.hours) for label in self.labels[:most]]
        others = self.labels[most:]
        if others:
            shown.append(LabelHours("", tuple(sum(o.hours[hour] for o in others) for hour in range(HOURS))))
        return tuple(shown)


def read_figures(session: LakeSession) -> Figures:
    """Asks a session of one day for its numbers.

    Args:
        session: Opened for that day alone.

    Raises:
        PermanentError: Memory or disk of this machine do not do for it.
    """
    stats = session.query(_FRAME_HOURS).rows
    by_source = _by_source(stats)
    return Figures(
        labels=_labels(session.query(_LABEL_HOURS).rows),
        hours=_frame_hours(stats),
        sources=tuple(_source(row, by_source) for row in session.query(_SOURCES).rows),
        size_bytes=sum(row[5] for row in stats),
        sizes=_histogram(row[6] for row in stats),
        brightness=_histogram(row[7] for row in stats),
        sharpness=_histogram(row[8] for row in stats),
        latency=_histogram(row[9] for row in stats),
        dimensions=_dimensions(row[10] for row in stats),
        models=tuple(ModelUse(*row) for row in session.query(_MODELS).rows),
    )


def _labels(rows: Iterable[Sequence[Any]]) -> tuple[LabelFigures, ...]:
    found: dict[str, list[Sequence[Any]]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    labels = [_label(label, several) for label, several in found.items()]
    return tuple(sorted(labels, key=lambda label: (-label.total, label.label)))


def _label(label: str, rows: list[Sequence[Any]]) -> LabelFigures:
    counts = [0] * HOURS
    for row in rows:
        counts[row[1]] += row[2]
    return LabelFigures(
        label=label,
        hours=tuple(counts),
        frames=sum(row[3] for row in rows),
        first_seen=min(row[4] for row in rows),
        last_seen=max(row[5] for row in rows),
        mean_confidence=sum(row[2] * row[6] for row in rows) / sum(counts),
        min_confidence=min(row[7] for row in rows),
        max_confidence=max(row[8] for row in rows),
    )


def _by_source(rows: Iterable[Sequence[Any]]) -> dict[str | None, list[Sequence[Any]]]:
    found: dict[str | None, list[Sequence[Any]]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    return found


def _frame_hours(rows: Iterable[Sequence[Any]]) -> FrameHours:
    counts = [[0] * HOURS for _ in range(3)]
    for row in rows:
        if row[1] is None:
            continue  # dead letters whose records are of another day than they are listed under
        for place, count in enumerate(row[2:5]):
            counts[place][row[1]] += count or 0
    processed, gated, dead_letters = (tuple(hours) for hours in counts)
    return FrameHours(processed, gated, dead_letters)


def _source(row: Sequence[Any], stats: Mapping[str | None, list[Sequence[Any]]]) -> SourceFigures:
    return SourceFigures(
        source=row[0] or "",
        hours=_frame_hours(stats.get(row[0], [])),
        first_seen=row[5],
        last_seen=row[6],
        active_hours=row[7] or 0,
        longest_pause_s=row[8],
        dead_letters=row[4],
        size_bytes=row[9] or 0,
    )


def _histogram(maps: Iterable[Mapping[float, int] | None]) -> Histogram:
    return tuple(sorted((float(lower), frames) for lower, frames in _summed(maps).items()))


def _dimensions(maps: Iterable[Mapping[str, int] | None]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(_summed(maps).items(), key=lambda row: (-row[1], row[0])))


def _summed(maps: Iterable[Mapping[_Bin, int] | None]) -> dict[_Bin, int]:
    """Adds up histograms of hours and sources: the summaries are made for that."""
    summed: dict[_Bin, int] = defaultdict(int)
    for one in maps:
        for key, frames in (one or {}).items():
            summed[key] += frames
    return summed
