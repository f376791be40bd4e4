"""The figures at the top of a report, which the page also holds as JSON for programs.

The JSON is in the page's `<meta name="imgpipeline-report">`. Reading returns exactly what was written; the JSON of a
page of another version is not read.
"""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

META_NAME = "imgpipeline-report"
"""Of the `<meta>` element of a page that holds these figures."""
_META = re.compile(rb'<meta name="imgpipeline-report" content="([^"]*)">')
HOUR_NAMES = tuple(f"{hour:02d}" for hour in range(24))
"""The hours of a day on which the clock is not changed."""
TOP_LABELS = 7
"""Labels that have a colour of their own."""


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
    """Frames that a detector looked at."""
    gated: int
    """Frames that were left out before detection."""
    dead_letters: int
    """Dead letters listed under the day."""
    detections: int
    """Detections that the summaries count (`IMGPIPELINE_SUMMARY_THRESHOLD`)."""
    labels: int
    """Different labels among them."""
    sources: int
    """Different sources of frames."""
    size_bytes: int
    """Size of all encoded images."""
    busiest_hour: int | None
    """Place of the hour with the most detections (without any: with the most frames), from 0; None on an empty day."""
    verdict: str
    """What the last audit says of the day's tables: `ok`, `behind` (the ledger has more), `wrong`; `outdated` (they
    were built again since), `not audited`, `not built`."""
    top: tuple[LabelHours, ...]
    """The most frequent labels by hour, at most 7, and the sum of all others as the label `` (empty)."""
    hour_names: tuple[str, ...] = HOUR_NAMES
    """The hours of the day."""
    timezone: str = "UTC"
    """IANA name of the time zone."""
    observed_s: float | None = None
    """Seconds during which sources were delivering frames, summed over sources; None if nothing says so."""
    notices: int = 0
    """Notices that the sources have sent of the day."""
    received: int | None = None
    """Frames that the sources received, by their accounts; None if they sent none."""
    dropped: int = 0
    """Of these, lost."""
    objects: int | None = None
    """Different objects, each counted at each source that saw it; None if the day's objects are not tracked."""
    crossings: int | None = None
    """Crossings of all lines; None if they are not counted."""
    events: int | None = None
    """Events of all rules; None if the rules were not evaluated."""
    recipe: str = ""
    """Hash of what made the page: code, templates, queries and settings; empty in pages of older releases."""

    def to_json(self) -> str:
        """Returns the figures as the page holds them."""
        data = {**asdict(self), "day": self.day.isoformat(), "version": 1}
        return json.dumps(data, ensure_ascii=True, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Headline":
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError if it is something else."""
        data: dict[str, Any] = json.loads(text)
        if data.pop("version") != 1:
            raise ValueError("the figures of another version")
        names = tuple(str(name) for name in data.pop("hour_names", HOUR_NAMES))
        top = tuple(_label_hours(item, len(names)) for item in data.pop("top"))
        return cls(day=date.fromisoformat(data.pop("day")), top=top, hour_names=names, **data)


def _label_hours(data: Mapping[str, Any], hours: int) -> LabelHours:
    counts = tuple(int(count) for count in data["counts"])
    if len(counts) != hours:
        raise ValueError(f"{len(counts)} hours instead of {hours}")
    return LabelHours(str(data["label"]), counts)


def read_headline(page: bytes) -> Headline | None:
    """Reads the figures out of a page; None if it is none, or one of another version."""
    found = _META.search(page)
    if found is None:
        return None
    try:
        return Headline.from_json(html.unescape(found[1].decode()))
    except (KeyError, TypeError, ValueError):
        return None
