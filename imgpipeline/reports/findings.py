"""What tracking and the rules found on a day: objects, zones, lines, and events with the images of some."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imgpipeline.contracts.detection import Detection
from imgpipeline.lake.schema.events import EVENTS, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.schema.tracks import UNIQUE_OBJECTS
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.reports.figures import DayHours
from imgpipeline.reports.inputs import ReportInputs
from imgpipeline.reports.pictures import Easel, Picture, TrackPicture, make_track_pictures
from imgpipeline.reports.stored_day import DayQueries

_OBJECTS = """
SELECT source, label, hour, objects, tracks, mean_stay_s, longest_stay_s
FROM unique_objects WHERE {within} ORDER BY hour, source, label
"""
_TOTALS = """
SELECT source, label, sum(new_objects)::BIGINT FROM unique_totals WHERE {within} GROUP BY ALL
"""
_ZONES = """
SELECT source, zone, label, hour, occupied_s, most_at_once, objects
FROM zone_occupancy WHERE {within} ORDER BY source, zone, label, hour
"""
_LINES = """
SELECT source, line, direction, label, hour, crossings, objects
FROM line_crossings WHERE {within} ORDER BY source, line, direction, label, hour
"""
_MOST_EVENTS = 60
_MOST_PICTURES = 6
_RULES = """
SELECT rule, kind, source, count(*), min("timestamp"), max("timestamp")
FROM events WHERE {within} GROUP BY ALL ORDER BY rule, kind, source
"""
_CHOSEN = f"""
WITH numbered AS (
    SELECT *, row_number() OVER (ORDER BY "timestamp" DESC, event_id) AS number,
           row_number() OVER (PARTITION BY rule, source ORDER BY "timestamp" DESC, event_id) AS of_rule
    FROM events WHERE {{within}}
), pictured AS (
    SELECT event_id FROM numbered WHERE coalesce(image_paths[-1], '') <> ''
    ORDER BY of_rule, number LIMIT {_MOST_PICTURES}
), marked AS (
    SELECT *, number <= {_MOST_EVENTS} AS is_listed, event_id IN (FROM pictured) AS is_pictured FROM numbered
)
SELECT is_listed, is_pictured, event_id, "timestamp", rule, source, coalesce(place, ''), coalesce(label, ''),
       coalesce(direction, ''), reason, coalesce(frame_ids[-1], ''), coalesce(image_paths[-1], '')
FROM marked WHERE is_listed OR is_pictured ORDER BY number DESC
"""  # noqa: S608 - numbers and names of our own
"""The latest events, and the latest ones with an image of each rule and source."""
_BOXES = """
SELECT frame_id, label, class_id, confidence, x, y, width, height FROM detections
WHERE frame_id IN ({frames}) AND confidence >= {least} AND x IS NOT NULL ORDER BY frame_id, detection_number
"""


@dataclass(frozen=True, slots=True)
class ByHour:
    """The hours of one source and label, and of one zone, or one line and direction."""

    of: Mapping[str, str]
    """The columns that name it, such as `source`, `label` and `zone`."""
    hours: tuple[Mapping[str, Any], ...]
    """The other columns of each hour that has a row; `hour` is the position in the day. Not empty."""

    def total(self, column: str) -> float:
        """Returns the sum of a column over the day."""
        total: float = sum(hour[column] for hour in self.hours)
        return total

    def most(self, column: str) -> Any:
        """Returns the largest value of a column; None without one."""
        return max((hour[column] for hour in self.hours if hour[column] is not None), default=None)

    def by_hour(self, column: str, hours: int) -> tuple[float, ...]:
        """Returns a column in each hour of a day with the given number of hours."""
        sums: list[float] = [0] * hours
        for hour in self.hours:
            sums[hour["hour"]] += hour[column]
        return tuple(sums)

    @property
    def mean_stay_s(self) -> float | None:
        """Mean stay of objects in seconds over all hours; an object that is seen in two hours counts in both."""
        known = [(hour["objects"], hour["mean_stay_s"]) for hour in self.hours if hour["mean_stay_s"] is not None]
        seen = sum(objects for objects, _ in known)
        return sum(objects * stay_s for objects, stay_s in known) / seen if seen else None


@dataclass(frozen=True, slots=True)
class SourceObjects:
    """The objects of one source and label."""

    count: int
    """Objects first seen on the day; one that is seen in two hours counts once."""
    by_hour: ByHour


@dataclass(frozen=True, slots=True)
class RuleEvents:
    """The events of one rule at one source."""

    rule: str
    kind: str
    source: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """One event that the page lists or shows."""

    event_id: str
    timestamp: datetime
    rule: str
    source: str
    place: str
    """The zone or line; empty without one."""
    label: str
    """Label of the objects; empty for several labels or none."""
    direction: str
    """Direction in which a line was crossed; empty without a line."""
    reason: str
    frame_id: str
    image_path: str
    """Where its image is stored; empty without one."""


@dataclass(frozen=True, slots=True)
class DayEvents:
    """The events of a day."""

    rules: tuple[RuleEvents, ...]
    latest: tuple[ShownEvent, ...]
    """At most 60 events, by time."""
    pictures: tuple[tuple[ShownEvent, Picture], ...]
    """At most six events with their images and detections, by time."""

    @property
    def count(self) -> int:
        """Events of the day."""
        return sum(rule.count for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Findings:
    """What tracking and the rules found on a day; None where the table is not built."""

    objects: tuple[SourceObjects, ...] | None = None
    """Unique objects by source and label; the source and label with the most objects first."""
    track_pictures: tuple[TrackPicture, ...] = ()
    zones: tuple[ByHour, ...] | None = None
    """Occupancy of the zones, by source and name."""
    lines: tuple[ByHour, ...] | None = None
    """Crossings of the lines, by source and name."""
    events: DayEvents | None = None

    @property
    def object_count(self) -> int | None:
        """Unique objects of the day, counted once per source."""
        return None if self.objects is None else sum(one.count for one in self.objects)

    @property
    def objects_by_label(self) -> tuple[tuple[str, int], ...]:
        """Labels with their objects of the day at all sources, the most frequent first."""
        counts: Counter[str] = Counter()
        for one in self.objects or ():
            counts[one.by_hour.of["label"]] += one.count
        return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def crossing_count(self) -> int | None:
        """Crossings of all lines."""
        return None if self.lines is None else sum(int(line.total("crossings")) for line in self.lines)

    @property
    def event_count(self) -> int | None:
        """Events of all rules."""
        return None if self.events is None else self.events.count


def read_findings(
    easel: Easel, session: DayQueries, inputs: ReportInputs, clock: DayHours, *, least: float = 0.0
) -> Findings:
    """Reads the tables that are built for a day, and draws tracks and events.

    Detections with a lower confidence than `least` are not drawn.

    Raises:
        PermanentError: This machine lacks the memory or disk space.
        TransientError: The store does not answer.
        ForbiddenError: The store denies access.
    """
    is_tracked = bool(inputs.days_with(UNIQUE_OBJECTS.name))
    return Findings(
        objects=_objects(session, clock) if is_tracked else None,
        track_pictures=make_track_pictures(easel, session, clock) if is_tracked else (),
        zones=_by_hour(session, clock, _ZONES) if inputs.days_with(ZONE_OCCUPANCY.name) else None,
        lines=_by_hour(session, clock, _LINES) if inputs.days_with(LINE_CROSSINGS.name) else None,
        events=_events(easel, session, clock, least) if inputs.days_with(EVENTS.name) else None,
    )


def _objects(session: DayQueries, clock: DayHours) -> tuple[SourceObjects, ...]:
    within = clock.condition("hour")
    totals = {(source, label): count for source, label, count in session.query(_TOTALS.format(within=within)).rows}
    found = [
        SourceObjects(totals.get((one.of["source"], one.of["label"]), 0), one)
        for one in _by_hour(session, clock, _OBJECTS)
    ]
    return tuple(sorted(found, key=lambda one: (-one.count, one.by_hour.of["source"], one.by_hour.of["label"])))


def _by_hour(session: DayQueries, clock: DayHours, sql: str) -> tuple[ByHour, ...]:
    """Returns the rows of a table of hourly numbers by the columns before `hour`."""
    answer = session.query(sql.format(within=clock.condition("hour")))
    at = answer.columns.index("hour")
    found: dict[Sequence[str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in answer.rows:
        numbers = zip(answer.columns[at + 1 :], row[at + 1 :], strict=True)
        found[tuple(row[:at])].append({"hour": clock.place(row[at]), **dict(numbers)})
    return tuple(ByHour(dict(zip(answer.columns, of, strict=False)), tuple(hours)) for of, hours in found.items())


def _events(easel: Easel, session: DayQueries, clock: DayHours, least: float) -> DayEvents:
    """Reads the events of a day and draws the images of some."""
    within = clock.condition('"timestamp"')
    rules = tuple(RuleEvents(*row) for row in session.query(_RULES.format(within=within)).rows)
    rows = [(row[0], row[1], ShownEvent(*row[2:])) for row in session.query(_CHOSEN.format(within=within)).rows]
    pictured = [event for _, is_pictured, event in rows if is_pictured]
    boxes = _boxes(session, {event.frame_id for event in pictured}, least)
    return DayEvents(
        rules,
        tuple(event for is_listed, _, event in rows if is_listed),
        tuple(
            (event, easel.draw(event.image_path, boxes.get(event.frame_id, ()), is_small=True)) for event in pictured
        ),
    )


def _boxes(session: DayQueries, frames: Iterable[str], least: float) -> dict[str, list[Detection]]:
    names = ", ".join(quoted(name) for name in sorted(frames))
    if not names:
        return {}
    found: dict[str, list[Detection]] = defaultdict(list)
    for frame_id, label, class_id, confidence, *box in session.query(
        _BOXES.format(frames=names, least=float(least))
    ).rows:
        found[frame_id].append(Detection(label, class_id or 0, confidence, tuple(box)))
    return found
