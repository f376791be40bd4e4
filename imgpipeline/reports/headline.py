"""The figures at the top of a report. The page also carries them as JSON, in `<meta name="imgpipeline-report">`."""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

META_NAME = "imgpipeline-report"
"""Name of the page's `<meta>` element with these figures."""
_META = re.compile(rf'<meta name="{META_NAME}" content="([^"]*)">'.encode())
HOUR_NAMES = tuple(f"{hour:02d}" for hour in range(24))
"""Hours of a day without a clock change."""
TOP_LABELS = 7
"""Labels with their own colour."""


@dataclass(frozen=True, slots=True)
class LabelHours:
    """One label over the hours of a day."""

    label: str
    """Class name."""
    counts: tuple[int, ...]
    """Detections in each hour of the day."""

    @property
    def total(self) -> int:
        """Detections of the day."""
        return sum(self.counts)


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
    """Frames that a detector processed."""
    gated: int
    """Frames that were gated before detection."""
    dead_letters: int
    """Dead letters listed under the day."""
    detections: int
    """Detections that the summaries count (from `IMGPIPELINE_SUMMARY_THRESHOLD` on)."""
    labels: int
    """Different labels among them."""
    sources: int
    """Different sources of frames."""
    size_bytes: int
    """Size of all encoded images."""
    busiest_hour: int | None
    """Position of the busiest hour, from 0, as `Figures.busiest_hour`; None on an empty day."""
    verdict: str
    """Result of the last audit of the day's tables, a value of `Verdict`."""
    top: tuple[LabelHours, ...]
    """The most frequent labels by hour, at most 7. Any others are summed up under an empty label."""
    hour_names: tuple[str, ...] = HOUR_NAMES
    """The hours of the day."""
    timezone: str = "UTC"
    """IANA name of the time zone."""
    observed_s: float | None = None
    """Observed seconds, summed over sources; None if unknown."""
    notices: int = 0
    """Notices from the sources about the day."""
    received: int | None = None
    """Frames received, by the sources' accounts; None without accounts."""
    dropped: int = 0
    """Received frames that were lost."""
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
