"""The numbers of a day's report, the hours that they are counted in, and the few at the top of the page.

The page also carries its headline as JSON, in `<meta name="imgpipeline-report">`.
"""

import html
import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from imgpipeline.contracts.times import format_time
from imgpipeline.lake.sessions.local_time import hours_of, local_days

META_NAME = "imgpipeline-report"
"""Name of the page's `<meta>` element with these figures."""
_META = re.compile(rf'<meta name="{META_NAME}" content="([^"]*)">'.encode())
HOUR_NAMES = tuple(f"{hour:02d}" for hour in range(24))
"""Hours of a day without a clock change."""
TOP_LABELS = 7
"""Labels with their own colour."""


@dataclass(frozen=True, slots=True)
class DayHours:
    """The hours of one day: 24, or one more or less on a local day on which the clock is changed."""

    names: tuple[str, ...]
    """What a clock shows, such as `07`. An hour that occurs twice carries its offset from UTC: `02 +01:00`."""
    starts: tuple[datetime, ...]
    """Start of each hour, UTC."""
    end: datetime

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
    """Returns the hours of a day of a time zone."""
    local = local_days(zone, day, day + timedelta(days=2))
    hours = hours_of(local, day)
    names = tuple(f"{hour.hour:02d}{_offset(hour.start, zone) if hour.is_repeated else ''}" for hour in hours)
    later = [hour.start for n in (1, 2) for hour in hours_of(local, day + timedelta(days=n))]
    return DayHours(names, tuple(hour.start for hour in hours), min(later))


def _offset(start: datetime, zone: tzinfo) -> str:
    return " " + start.astimezone(zone).isoformat()[-6:]


@dataclass(frozen=True, slots=True)
class LabelHours:
    """One label over the hours of a day."""

    label: str
    counts: tuple[int, ...]
    """Detections in each hour of the day."""

    @property
    def total(self) -> int:
        """Detections of the day."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One label of the day."""

    label: str
    hours: tuple[int, ...]
    """Detections in each hour of the day."""
    frames: int
    first_seen: datetime
    last_seen: datetime
    mean_confidence: float
    min_confidence: float
    max_confidence: float

    @property
    def total(self) -> int:
        """Detections of the day."""
        return sum(self.hours)


@dataclass(frozen=True, slots=True)
class FrameHours:
    """Frames by hour of the day, of one source or of all."""

    processed: tuple[int, ...]
    gated: tuple[int, ...]
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
    active_hours: int
    """Hours with at least one frame."""
    longest_pause_s: float | None
    """Longest time between two of its frames, in seconds; None if there are fewer than two."""
    dead_letters: int
    """Its dead letters, including those that belong to no hour."""
    labels: Mapping[str, int]
    size_bytes: int
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
    announced: int
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
    sha256: str
    confidence_threshold: float | None
    """Detections have a confidence above this."""
    nms_threshold: float | None
    """IoU above which the weaker of two boxes is dropped."""
    frames: int
    first_frame: datetime
    last_frame: datetime
    processed_until: datetime


Histogram = tuple[tuple[float, int], ...]
"""Lower bound and number of frames of each bin that has any, sorted."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All numbers of a day."""

    clock: DayHours
    labels: tuple[LabelFigures, ...]
    """Most frequent first."""
    hours: FrameHours
    sources: tuple[SourceFigures, ...]
    """The source with the most frames first."""
    size_bytes: int
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


@dataclass(frozen=True, slots=True)
class Headline:
    """One day in a few numbers."""

    day: date
    """The day, of its time zone."""
    inputs: str
    """Fingerprint of the report's inputs."""
    frames: int
    """Frames of the day, each counted once."""
    processed: int
    gated: int
    dead_letters: int
    detections: int
    """Detections that the summaries count (from `IMGPIPELINE_SUMMARY_THRESHOLD` on)."""
    labels: int
    """Different labels among them."""
    sources: int
    size_bytes: int
    busiest_hour: int | None
    """Position of the busiest hour, from 0, as `Figures.busiest_hour`; None on an empty day."""
    verdict: str
    """Result of the last audit of the day's tables, a value of `Verdict`."""
    top: tuple[LabelHours, ...]
    """The most frequent labels by hour, at most 7. Any others are summed up under an empty label."""
    hour_names: tuple[str, ...] = HOUR_NAMES
    timezone: str = "UTC"
    """IANA name of the time zone."""
    observed_s: float | None = None
    """Observed seconds, summed over sources; None if unknown."""
    notices: int = 0
    received: int | None = None
    """Frames received, by the sources' accounts; None without accounts."""
    dropped: int = 0
    objects: int | None = None
    """Unique objects, counted once per source; None if the day has no tracks."""
    crossings: int | None = None
    """Crossings of all lines; None if they are not counted."""
    events: int | None = None
    """Events of all rules; None if the rules were not evaluated."""
    recipe: str = ""
    """Hash of code, templates, queries and settings that determine the page."""

    def to_json(self) -> str:
        """Returns the JSON of the page."""
        data = {**asdict(self), "day": self.day.isoformat(), "version": 1}
        return json.dumps(data, ensure_ascii=True, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Headline":
        """Parses the output of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        data: dict[str, Any] = json.loads(text)
        if data.pop("version") != 1:
            raise ValueError("expected version 1")
        names = tuple(str(name) for name in data.pop("hour_names"))
        top = tuple(_label_hours(item, len(names)) for item in data.pop("top"))
        return cls(day=date.fromisoformat(data.pop("day")), top=top, hour_names=names, **data)


def _label_hours(data: Mapping[str, Any], hours: int) -> LabelHours:
    counts = tuple(int(count) for count in data["counts"])
    if len(counts) != hours:
        raise ValueError(f"{len(counts)} hours instead of {hours}")
    return LabelHours(str(data["label"]), counts)


def read_headline(page: bytes) -> Headline | None:
    """Returns the figures of a page; None if it is not a report, or one of another version."""
    found = _META.search(page)
    if found is None:
        return None
    try:
        return Headline.from_json(html.unescape(found[1].decode()))
    except (KeyError, TypeError, ValueError):
        return None
