"""The numbers of a day's report, the hours that they are counted in, and the few at the top of the page.

The page also carries its headline as JSON, in `<meta name="imgpipeline-report">`.
"""

import html
import json
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from imgpipeline.contracts.times import format_time
from imgpipeline.lake.sessions.local_time import hours_of, local_days

if TYPE_CHECKING:  # loads DuckDB, which the recipe of a report does not need
    from imgpipeline.lake.query.books import BookEntry
    from imgpipeline.lake.sessions.session import LakeSession

META_NAME = "imgpipeline-report"
"""Name of the page's `<meta>` element with these figures."""
_META = re.compile(rf'<meta name="{META_NAME}" content="([^"]*)">'.encode())
HOUR_NAMES = tuple(f"{hour:02d}" for hour in range(24))
"""Hours of a day without a clock change."""
TOP_LABELS = 7
"""Labels with their own colour."""
_LABELS = """
SELECT label, hour, source, count, distinct_frames AS frames, first_seen, last_seen,
       mean_confidence::DOUBLE AS mean_confidence, min_confidence, max_confidence
FROM label_counts ORDER BY label, hour, source
"""
_FRAMES = """
SELECT source, hour, frames, processed, gated, dead_letters, size_bytes, sizes, brightness, sharpness, latency,
       dimensions, observed_s
FROM frame_stats ORDER BY source, hour
"""
"""Read once, because a session computes the summary for each query."""
_SOURCES = """
SELECT source, frames, gated, dead_letters, first_seen, last_seen, active_hours,
       longest_pause_s::DOUBLE AS longest_pause_s, size_bytes
FROM source_activity ORDER BY frames DESC, dead_letters DESC, source
"""
_MODELS = """
SELECT model_used AS name, coalesce(model_sha256, '') AS sha256, confidence_threshold, nms_threshold,
       count(*) AS frames, min("timestamp") AS first_frame, max("timestamp") AS last_frame,
       max(processing_timestamp) AS processed_until
FROM frames WHERE status = 'processed' AND model_used <> ''
GROUP BY ALL ORDER BY first_frame, name, sha256, confidence_threshold, nms_threshold
"""
Row = Mapping[str, Any]
"""A row of a query, by column; times are aware UTC."""


def read_rows(session: "LakeSession", sql: str, parameters: Mapping[str, object] | None = None) -> tuple[Row, ...]:
    """Runs one query; raises what `LakeSession.query` raises."""
    answer = session.query(sql, parameters or {})
    return tuple(dict(zip(answer.columns, row, strict=True)) for row in answer.rows)


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
class ByHour:
    """The hours of a label, of a source, or of a source and label at one zone or line."""

    of: Row
    """The columns that name it, such as `source`, `label` and `zone`."""
    hours: tuple[Row, ...]
    """The other columns of each row. `hour` is the position in the day; it is None for dead letters whose record has
    another day than they are listed under."""

    def known(self, column: str) -> list[Any]:
        """Returns the values of a column, without None."""
        return [hour[column] for hour in self.hours if hour[column] is not None]

    def total(self, column: str) -> float:
        """Returns the sum of a column over the day."""
        total: float = sum(self.known(column))
        return total

    def least(self, column: str) -> Any:
        """Returns the smallest value of a column; None without one."""
        return min(self.known(column), default=None)

    def most(self, column: str) -> Any:
        """Returns the largest value of a column; None without one."""
        return max(self.known(column), default=None)

    def mean(self, column: str, weight: str) -> float | None:
        """Returns the mean of a column over the day, with each row weighted by another column; None without values."""
        pairs = [(hour[weight], hour[column]) for hour in self.hours if hour[column] is not None]
        weights = sum(count for count, _ in pairs)
        return sum(count * value for count, value in pairs) / weights if weights else None

    def by_hour(self, column: str, hours: int) -> tuple[Any, ...]:
        """Returns a column in each hour of a day with the given number of hours."""
        sums: list[Any] = [0] * hours
        for hour in self.hours:
            if hour["hour"] is not None:
                sums[hour["hour"]] += hour[column]
        return tuple(sums)

    @property
    def observed_s(self) -> float | None:
        """Observed seconds of the frames of a source, or of all; None if unknown."""
        known = self.known("observed_s")
        return round(sum(known), 6) if known else None

    def bins(self, column: str) -> "Histogram":
        """Returns the sum of a column of histograms (maps), sorted by bin."""
        counts: Counter[Any] = Counter()
        for one in self.known(column):
            counts.update(one)
        return tuple(sorted(counts.items()))


Histogram = tuple[tuple[Any, int], ...]
"""Lower bound and number of frames of each bin that has any, sorted."""


def read_by_hour(session: "LakeSession", clock: DayHours, sql: str) -> tuple[ByHour, ...]:
    """Groups the rows of a query by the columns before `hour`, which is the start of an hour."""
    answer = session.query(sql)
    at = answer.columns.index("hour")
    found: dict[Sequence[Any], list[Row]] = defaultdict(list)
    for row in answer.rows:
        place = None if row[at] is None else clock.place(row[at])
        found[row[:at]].append({"hour": place, **dict(zip(answer.columns[at + 1 :], row[at + 1 :], strict=True))})
    return tuple(ByHour(dict(zip(answer.columns, of, strict=False)), tuple(hours)) for of, hours in found.items())


@dataclass(frozen=True, slots=True)
class Figures:
    """All numbers of a day."""

    clock: DayHours
    labels: tuple[ByHour, ...]
    """Detections by label, the most frequent first; each row is an hour and source."""
    frames_of: Mapping[str | None, ByHour]
    """Frames by source; None: dead letters that name none."""
    sources: tuple[Row, ...]
    """The source with the most frames first."""
    models: tuple[Row, ...]
    """Models with their thresholds, ordered by first frame."""
    books: tuple[Row, ...] = ()
    """The accounting of the sources that send notices, by source."""
    notices: int = 0
    intervals: Mapping[str, Row] = field(default_factory=dict)
    """By label, on days with a plan: the columns of `lake.query.accuracy.INTERVAL`."""

    @property
    def frames(self) -> ByHour:
        """Frames of all sources."""
        return ByHour({}, tuple(hour for one in self.frames_of.values() for hour in one.hours))

    def by_hour(self, one: ByHour, column: str) -> tuple[Any, ...]:
        """Returns a column in each hour of the day."""
        return one.by_hour(column, len(self.clock.names))

    @property
    def detections(self) -> int:
        """Detections of the day."""
        return sum(self.detection_hours)

    @property
    def detection_hours(self) -> tuple[int, ...]:
        """Detections in each hour of the day."""
        return self.by_hour(ByHour({}, tuple(hour for label in self.labels for hour in label.hours)), "count")

    @property
    def busiest_hour(self) -> int | None:
        """Position of the earliest hour with the most detections (without any: frames); None on an empty day."""
        for hours in (self.detection_hours, self.by_hour(self.frames, "frames")):
            if any(hours):
                return hours.index(max(hours))
        return None

    def top_labels(self, most: int = TOP_LABELS) -> tuple[LabelHours, ...]:
        """Returns the most frequent labels by hour. Any others are summed up under an empty name."""
        shown = [LabelHours(label.of["label"], self.by_hour(label, "count")) for label in self.labels[:most]]
        others = ByHour({}, tuple(hour for label in self.labels[most:] for hour in label.hours))
        return (*shown, LabelHours("", self.by_hour(others, "count"))) if others.hours else tuple(shown)


def read_figures(session: "LakeSession", clock: DayHours) -> Figures:
    """Reads the numbers of a day, those that `imgpipeline summary` shows.

    Raises:
        PermanentError: This machine lacks the memory or disk space.
    """
    from imgpipeline.lake.query.accuracy import intervals_of  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.query.books import read_entries  # noqa: PLC0415 - loads DuckDB

    labels = read_by_hour(session, clock, _LABELS)
    counts = [{"label": one.of["label"], "count": one.total("count")} for one in labels]
    found = zip(counts, intervals_of(session, counts, ("label",), None), strict=True)
    return Figures(
        clock=clock,
        labels=tuple(sorted(labels, key=lambda one: (-one.total("count"), one.of["label"]))),
        intervals={one["label"]: interval for one, interval in found if interval["verdict"]},
        frames_of={one.of["source"]: one for one in read_by_hour(session, clock, _FRAMES)},
        sources=read_rows(session, _SOURCES),
        models=read_rows(session, _MODELS),
        books=_books(read_entries(session)),
        notices=session.query("SELECT count(*) FROM notices").rows[0][0],
    )


def _books(entries: Iterable["BookEntry"]) -> tuple[Row, ...]:
    """Sums up the accounts of all sessions of each source that has any."""
    found: dict[str, list[BookEntry]] = defaultdict(list)
    for entry in entries:
        if entry.source and entry.session is not None:
            found[entry.source].append(entry)
    return tuple(_books_of(source, several) for source, several in sorted(found.items()))


def _books_of(source: str, entries: Sequence["BookEntry"]) -> Row:
    from imgpipeline.lake.query.books import SessionState  # noqa: PLC0415 - loads DuckDB

    dropped: Counter[str] = Counter()
    for entry in entries:
        dropped.update(entry.dropped)
    return {
        "source": source,
        "sessions": len({entry.session for entry in entries}),
        "open_sessions": len({entry.session for entry in entries if entry.state is SessionState.OPEN}),
        "received": sum(entry.received or 0 for entry in entries),
        "announced": sum(entry.announced or 0 for entry in entries),
        "in_tables": sum(entry.in_ledger for entry in entries),
        "gated": sum(entry.gated or 0 for entry in entries),
        "dropped": dropped,
        "failed": sum(entry.failed or 0 for entry in entries),
        "unaccounted": sum(abs(entry.unaccounted) for entry in entries),
    }


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
        return json.dumps(_HEADLINE.dump_python(self, mode="json") | {"version": 1}, ensure_ascii=True, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Headline":
        """Parses the output of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        data = json.loads(text)
        if data["version"] != 1:
            raise ValueError("expected version 1")
        return _HEADLINE.validate_python(data)


_HEADLINE = TypeAdapter(Headline)


def read_headline(page: bytes) -> Headline | None:
    """Returns the figures of a page; None if it is not a report, or one of another version."""
    found = _META.search(page)
    if found is None:
        return None
    try:
        return Headline.from_json(html.unescape(found[1].decode()))
    except (KeyError, TypeError, ValueError):
        return None
