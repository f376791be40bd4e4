"""The numbers of a day's report, as values. Reading them is `questions`, showing them `page` and `charts`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from imgpipeline.reports.headline import LabelHours
from imgpipeline.reports.hours import DayHours


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One label of the day."""

    label: str
    """Class name."""
    hours: tuple[int, ...]
    """Detections in each hour of the day."""
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
    """The frames of all sources, or of one, over the hours of the day."""

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
    """The camera, video or folder; empty if dead letters named none."""
    hours: FrameHours
    """Its frames by hour."""
    first_seen: datetime | None
    """Time of its first frame, UTC; None if it had dead letters only."""
    last_seen: datetime | None
    """Time of its last frame, UTC."""
    active_hours: int
    """Hours with at least one frame."""
    longest_pause_s: float | None
    """Longest time between two of its frames, in seconds; None if there are fewer than two."""
    dead_letters: int
    """Its dead letters, also those that belong to no hour."""
    labels: Mapping[str, int]
    """Its detections by label."""
    size_bytes: int
    """Size of its encoded images."""
    observed_s: float | None = None
    """Seconds during which it was delivering frames; None if nothing says so."""


@dataclass(frozen=True, slots=True)
class SourceBooks:
    """What the sessions of one source account for."""

    source: str
    """The source."""
    sessions: int
    """How many sessions there were."""
    open_sessions: int
    """Of these, how many have not ended on this day."""
    received: int
    """Frames it received."""
    announced: int
    """Of these, announced."""
    in_tables: int
    """Records of the sessions in the day's tables."""
    gated: int
    """Frames left out on purpose and not announced."""
    dropped: Mapping[str, int]
    """Frames lost, by reason."""
    failed: int
    """Frames that could not be decoded or stored."""
    unaccounted: int
    """Received frames of which the accounts say nothing; 0 if they add up."""


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

    clock: DayHours
    """The hours of the day."""
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
    books: tuple[SourceBooks, ...] = ()
    """The accounting of the sources that send notices, by source."""
    notices: int = 0
    """Notices of the day."""
    observed_s: float | None = None
    """Seconds during which sources were delivering frames, summed over sources; None if nothing says so."""

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
        """Detections in each hour of the day."""
        return tuple(sum(label.hours[hour] for label in self.labels) for hour in range(len(self.clock.names)))

    @property
    def busiest_hour(self) -> int | None:
        """Place of the hour with most detections, without any that with most frames; the earliest of several."""
        for hours in (self.detection_hours, self.hours.frames):
            if any(hours):
                return hours.index(max(hours))
        return None

    def top_labels(self, most: int) -> tuple[LabelHours, ...]:
        """Returns the most frequent labels by hour, and the sum of the others, if any, under an empty name."""
        shown = [LabelHours(label.label, label.hours) for label in self.labels[:most]]
        others = self.labels[most:]
        if others:
            shown.append(
                LabelHours("", tuple(sum(o.hours[hour] for o in others) for hour in range(len(self.clock.names))))
            )
        return tuple(shown)
