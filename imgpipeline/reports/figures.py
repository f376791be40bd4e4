"""The numbers of a day's report, and the hours that they are counted in."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from imgpipeline.contracts.times import format_time
from imgpipeline.lake.sessions.local_time import hours_of, local_days
from imgpipeline.reports.headline import LabelHours


@dataclass(frozen=True, slots=True)
class DayHours:
    """The hours of one day: 24, or one more or less on a local day on which the clock is changed."""

    names: tuple[str, ...]
    """What a clock shows, such as `07`. An hour that occurs twice carries its offset from UTC: `02 +01:00`."""
    starts: tuple[datetime, ...]
    """Start of each hour, UTC."""
    end: datetime
    """End of the last hour, UTC."""

    def place(self, at: datetime) -> int:
        """Returns the position of the hour that contains an instant of the day."""
        return max(0, bisect_right(self.starts, at) - 1)

    def condition(self, column: str) -> str:
        """Returns the SQL condition that a column, given as an SQL identifier, lies in the day."""
        return (
            f"({column} >= TIMESTAMPTZ '{format_time(self.starts[0])}' "
            f"AND {column} < TIMESTAMPTZ '{format_time(self.end)}')"
        )

    def span(self, place: int) -> tuple[datetime, datetime]:
        """Returns start and end of the hour at a position, UTC."""
        start = self.starts[place]
        following = [later for later in (*self.starts[place + 1 :], self.end) if later <= start + timedelta(hours=1)]
        return start, min(following, default=start + timedelta(hours=1))


def day_hours(day: date, zone: tzinfo) -> DayHours:
    """Returns the hours of a day.

    Args:
        day: A day of the time zone.
        zone: The time zone.
    """
    local = local_days(zone, day, day + timedelta(days=2))
    hours = hours_of(local, day)
    names = tuple(f"{hour.hour:02d}{_offset(hour.start, zone) if hour.is_repeated else ''}" for hour in hours)
    later = [hour.start for n in (1, 2) for hour in hours_of(local, day + timedelta(days=n))]
    return DayHours(names, tuple(hour.start for hour in hours), min(later))


def _offset(start: datetime, zone: tzinfo) -> str:
    return " " + start.astimezone(zone).isoformat()[-6:]


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One label of the day."""

    label: str
    """Class name."""
    hours: tuple[int, ...]
    """Detections in each hour of the day."""
    frames: int
    """Frames that contain it."""
    first_seen: datetime
    """Time of the first of them, UTC."""
    last_seen: datetime
    """Time of the last of them, UTC."""
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
    """Frames by hour of the day, of one source or of all."""

    processed: tuple[int, ...]
    """Frames that a detector processed."""
    gated: tuple[int, ...]
    """Frames that were gated before detection."""
    dead_letters: tuple[int, ...]
    """Dead letters; those whose record has another day than they are listed under belong to no hour."""

    @property
    def frames(self) -> tuple[int, ...]:
        """Processed and gated frames."""
        return tuple(a + b for a, b in zip(self.processed, self.gated, strict=True))


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """One source of the day."""

    source: str
    """The camera, video or folder; empty for dead letters that name none."""
    hours: FrameHours
    first_seen: datetime | None
    """Time of its first frame, UTC; None if it had dead letters only."""
    last_seen: datetime | None
    """Time of its last frame, UTC."""
    active_hours: int
    """Hours with at least one frame."""
    longest_pause_s: float | None
    """Longest time between two of its frames, in seconds; None if there are fewer than two."""
    dead_letters: int
    """Its dead letters, including those that belong to no hour."""
    labels: Mapping[str, int]
    """Its detections by label."""
    size_bytes: int
    """Size of its encoded images."""
    observed_s: float | None = None
    """Seconds during which it delivered frames; None if unknown."""


@dataclass(frozen=True, slots=True)
class SourceBooks:
    """The accounts of all sessions of one source."""

    source: str
    sessions: int
    open_sessions: int
    """Sessions that did not end on this day."""
    received: int
    """Frames received."""
    announced: int
    """Frames announced."""
    in_tables: int
    """Frames of the sessions in the day's tables."""
    gated: int
    """Frames gated by the source and not announced."""
    dropped: Mapping[str, int]
    """Frames lost, by reason."""
    failed: int
    """Frames that could not be decoded or stored."""
    unaccounted: int
    """Received frames that the accounts do not explain; 0 if they add up."""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """One model with its thresholds, as used on the day."""

    name: str
    """Name in the registry."""
    sha256: str
    """SHA-256 of the model file."""
    confidence_threshold: float | None
    """Detections have a confidence above this."""
    nms_threshold: float | None
    """IoU above which the weaker of two boxes is dropped."""
    frames: int
    """Frames it processed."""
    first_frame: datetime
    """Time of the first of them, UTC."""
    last_frame: datetime
    """Time of the last of them, UTC."""
    processed_until: datetime
    """When the last of them was processed, UTC."""


Histogram = tuple[tuple[float, int], ...]
"""Lower bound and number of frames of each bin that has any, sorted."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All numbers of a day."""

    clock: DayHours
    labels: tuple[LabelFigures, ...]
    """Most frequent first."""
    hours: FrameHours
    """Frames of all sources by hour."""
    sources: tuple[SourceFigures, ...]
    """The source with the most frames first."""
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
    """Dimensions in pixels, such as `640x360`, with their frames; most frequent first."""
    models: tuple[ModelUse, ...]
    """Ordered by first frame."""
    books: tuple[SourceBooks, ...] = ()
    """The accounting of the sources that send notices, by source."""
    notices: int = 0
    """Notices of the day."""
    observed_s: float | None = None
    """Observed seconds, summed over sources; None if unknown."""

    @property
    def frames(self) -> int:
        """Frames of the day."""
        return sum(self.hours.frames)

    @property
    def dead_letters(self) -> int:
        """Dead letters listed under the day."""
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
        """Position of the earliest hour with the most detections (without any: frames); None on an empty day."""
        for hours in (self.detection_hours, self.hours.frames):
            if any(hours):
                return hours.index(max(hours))
        return None

    def top_labels(self, most: int) -> tuple[LabelHours, ...]:
        """Returns the most frequent labels by hour. Any others are summed up under an empty name."""
        shown = [LabelHours(label.label, label.hours) for label in self.labels[:most]]
        others = self.labels[most:]
        if others:
            shown.append(
                LabelHours("", tuple(sum(o.hours[hour] for o in others) for hour in range(len(self.clock.names))))
            )
        return tuple(shown)
