"""What tracking and the rules found on a day: objects, zones, lines and events."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from imgpipeline.lake.schema import EVENTS, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.schema.tracks import UNIQUE_OBJECTS
from imgpipeline.reports.events import DayEvents, read_events
from imgpipeline.reports.figures import DayHours
from imgpipeline.reports.inputs import ReportInputs
from imgpipeline.reports.pictures import Easel, TrackPicture, make_track_pictures
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

HourT = TypeVar("HourT")
NumberT = TypeVar("NumberT", int, float)


@dataclass(frozen=True, slots=True)
class HourObjects:
    """The objects of one source and label in one hour."""

    hour: int
    """Position of the hour in the day, from 0."""
    objects: int
    """Unique objects; one that is seen in two hours counts in both."""
    tracks: int
    """Tracks, including the shortest."""
    mean_stay_s: float | None
    """Mean time between the first and the last sighting of an object, in seconds; None without objects."""
    longest_stay_s: float | None
    """The longest of these times, in seconds."""


@dataclass(frozen=True, slots=True)
class SourceObjects:
    """The objects of one source and label over the day."""

    source: str
    """The camera, video or folder."""
    label: str
    """Class name."""
    objects: int
    """Objects first seen on the day."""
    hours: tuple[HourObjects, ...]
    """By hour; not empty."""

    @property
    def tracks(self) -> int:
        """Tracks of the day; no track crosses the end of an hour."""
        return sum(hour.tracks for hour in self.hours)

    @property
    def mean_stay_s(self) -> float | None:
        """Mean stay in seconds over all hours; an object that is seen in two hours counts in both."""
        known = [(hour.objects, hour.mean_stay_s) for hour in self.hours if hour.mean_stay_s is not None]
        seen = sum(objects for objects, _ in known)
        return sum(objects * stay_s for objects, stay_s in known) / seen if seen else None

    @property
    def longest_stay_s(self) -> float | None:
        """The longest stay, in seconds."""
        return max((hour.longest_stay_s for hour in self.hours if hour.longest_stay_s is not None), default=None)

    def by_hour(self, hours: int) -> tuple[int, ...]:
        """Returns the objects in each hour of a day with the given number of hours."""
        return _by_hour(((one.hour, one.objects) for one in self.hours), hours)


@dataclass(frozen=True, slots=True)
class ZoneHour:
    """One label in one zone in one hour."""

    hour: int
    """Position of the hour in the day, from 0."""
    occupied_s: float
    """Seconds during which such an object was there."""
    most_at_once: int
    """The largest number of objects in one frame."""
    objects: int
    """Unique objects; 0 without tracks."""


@dataclass(frozen=True, slots=True)
class ZoneFigures:
    """One label in one zone over the day."""

    source: str
    """The camera, video or folder of the zone."""
    zone: str
    label: str
    """Class name."""
    hours: tuple[ZoneHour, ...]
    """The hours in which such an object was there; not empty."""

    @property
    def occupied_s(self) -> float:
        """Seconds during which such an object was there."""
        return sum(hour.occupied_s for hour in self.hours)

    @property
    def most_at_once(self) -> int:
        """The largest number of objects in one frame."""
        return max(hour.most_at_once for hour in self.hours)

    @property
    def most_objects(self) -> int:
        """Unique objects in the hour with the most of them."""
        return max(hour.objects for hour in self.hours)

    def by_hour(self, hours: int) -> tuple[float, ...]:
        """Returns the occupied seconds in each hour of a day with the given number of hours."""
        return _by_hour(((one.hour, one.occupied_s) for one in self.hours), hours)


@dataclass(frozen=True, slots=True)
class LineHour:
    """Crossings of one line by one label in one direction in one hour."""

    hour: int
    """Position of the hour in the day, from 0."""
    crossings: int
    objects: int
    """Unique objects that crossed it."""


@dataclass(frozen=True, slots=True)
class LineFigures:
    """Crossings of one line by one label in one direction over the day."""

    source: str
    """The camera, video or folder of the line."""
    line: str
    direction: str
    """The line's name for the direction."""
    label: str
    """Class name."""
    hours: tuple[LineHour, ...]
    """The hours in which it was crossed; not empty."""

    @property
    def crossings(self) -> int:
        """Crossings of the day."""
        return sum(hour.crossings for hour in self.hours)

    def by_hour(self, hours: int) -> tuple[int, ...]:
        """Returns the crossings in each hour of a day with the given number of hours."""
        return _by_hour(((one.hour, one.crossings) for one in self.hours), hours)


def _by_hour(numbers: Iterable[tuple[int, NumberT]], hours: int) -> tuple[NumberT | int, ...]:
    sums: list[NumberT | int] = [0] * hours
    for hour, number in numbers:
        sums[hour] += number
    return tuple(sums)


@dataclass(frozen=True, slots=True)
class Findings:
    """What tracking and the rules found on a day; None where the table is not built."""

    objects: tuple[SourceObjects, ...] | None = None
    """Unique objects by source and label; the source and label with the most objects first."""
    track_pictures: tuple[TrackPicture, ...] = ()
    """The longest tracks of some sources, drawn on images."""
    zones: tuple[ZoneFigures, ...] | None = None
    """Occupancy of the zones, by source and name."""
    lines: tuple[LineFigures, ...] | None = None
    """Crossings of the lines, by source and name."""
    events: DayEvents | None = None
    """Events of the rules."""

    @property
    def object_count(self) -> int | None:
        """Unique objects of the day, counted once per source."""
        return None if self.objects is None else sum(one.objects for one in self.objects)

    @property
    def objects_by_label(self) -> tuple[tuple[str, int], ...]:
        """Labels with their objects of the day at all sources, the most frequent first."""
        counts: Counter[str] = Counter()
        for one in self.objects or ():
            counts[one.label] += one.objects
        return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def crossing_count(self) -> int | None:
        """Crossings of all lines."""
        return None if self.lines is None else sum(line.crossings for line in self.lines)

    @property
    def event_count(self) -> int | None:
        """Events of all rules."""
        return None if self.events is None else self.events.count


def read_findings(
    easel: Easel, session: DayQueries, inputs: ReportInputs, clock: DayHours, *, least: float = 0.0
) -> Findings:
    """Reads the tables that are built for a day, and draws tracks and events.

    Args:
        easel: Draws on the images.
        session: The day, opened for queries.
        inputs: The inputs, with the versions of the built tables.
        clock: The hours of the day.
        least: Detections with a lower confidence are not drawn.

    Raises:
        PermanentError: This machine lacks the memory or disk space.
        TransientError: The store does not answer.
        ForbiddenError: The store denies access.
    """
    is_tracked = bool(inputs.days_with(UNIQUE_OBJECTS.name))
    return Findings(
        objects=_objects(session, clock) if is_tracked else None,
        track_pictures=make_track_pictures(easel, session, clock) if is_tracked else (),
        zones=_zones(session, clock) if inputs.days_with(ZONE_OCCUPANCY.name) else None,
        lines=_lines(session, clock) if inputs.days_with(LINE_CROSSINGS.name) else None,
        events=read_events(easel, session, clock, least=least) if inputs.days_with(EVENTS.name) else None,
    )


def _objects(session: DayQueries, clock: DayHours) -> tuple[SourceObjects, ...]:
    within = clock.condition("hour")
    totals = {(source, label): count for source, label, count in session.query(_TOTALS.format(within=within)).rows}
    found = [
        SourceObjects(source, label, totals.get((source, label), 0), tuple(hours))
        for (source, label), hours in _hourly(session, clock, _OBJECTS, HourObjects).items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.objects, one.source, one.label)))


def _zones(session: DayQueries, clock: DayHours) -> tuple[ZoneFigures, ...]:
    found = _hourly(session, clock, _ZONES, ZoneHour)
    return tuple(ZoneFigures(source, zone, label, tuple(hours)) for (source, zone, label), hours in found.items())


def _lines(session: DayQueries, clock: DayHours) -> tuple[LineFigures, ...]:
    found = _hourly(session, clock, _LINES, LineHour)
    return tuple(
        LineFigures(source, line, direction, label, tuple(hours))
        for (source, line, direction, label), hours in found.items()
    )


def _hourly(
    session: DayQueries, clock: DayHours, sql: str, of_hour: Callable[..., HourT]
) -> dict[tuple[Any, ...], list[HourT]]:
    """Returns the rows of a table of hourly numbers by the columns before `hour`."""
    found: dict[tuple[Any, ...], list[HourT]] = defaultdict(list)
    answer = session.query(sql.format(within=clock.condition("hour")))
    at = answer.columns.index("hour")
    for row in answer.rows:
        found[tuple(row[:at])].append(of_hour(clock.place(row[at]), *row[at + 1 :]))
    return found
