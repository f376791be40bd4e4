"""What happened at the zones and lines of a day, from the tables `zone_occupancy` and `line_crossings`."""

from collections import defaultdict
from dataclasses import dataclass

from imgpipeline.reports.hours import DayHours
from imgpipeline.reports.stored_day import DayQueries

_ZONES = """
SELECT source, zone, label, hour, occupied_s, most_at_once, objects
FROM zone_occupancy WHERE {within} ORDER BY source, zone, label, hour
"""
_LINES = """
SELECT source, line, direction, label, hour, crossings, objects
FROM line_crossings WHERE {within} ORDER BY source, line, direction, label, hour
"""


@dataclass(frozen=True, slots=True)
class ZoneHour:
    """One label in one zone in one hour."""

    hour: int
    """Place of the hour within the day, from 0."""
    occupied_s: float
    """How long such an object stood there, in seconds."""
    most_at_once: int
    """The largest number of objects in one frame."""
    objects: int
    """Different tracked objects; 0 if they were not tracked."""


@dataclass(frozen=True, slots=True)
class ZoneFigures:
    """One label in one zone over the day."""

    source: str
    """The camera, video or folder of the zone."""
    zone: str
    """Its name."""
    label: str
    """Class name."""
    hours: tuple[ZoneHour, ...]
    """The hours in which such an object stood there; not empty."""

    @property
    def occupied_s(self) -> float:
        """How long such an object stood there, in seconds."""
        return sum(hour.occupied_s for hour in self.hours)

    @property
    def most_at_once(self) -> int:
        """The largest number of objects in one frame."""
        return max(hour.most_at_once for hour in self.hours)

    @property
    def most_objects(self) -> int:
        """Different tracked objects in the hour with most of them."""
        return max(hour.objects for hour in self.hours)

    def by_hour(self, hours: int) -> tuple[float, ...]:
        """Returns the occupied seconds in each hour of a day of so many hours."""
        seconds = [0.0] * hours
        for one in self.hours:
            seconds[one.hour] += one.occupied_s
        return tuple(seconds)


@dataclass(frozen=True, slots=True)
class LineHour:
    """One label that crossed one line in one direction in one hour."""

    hour: int
    """Place of the hour within the day, from 0."""
    crossings: int
    """How often the line was crossed."""
    objects: int
    """Different tracked objects that crossed it."""


@dataclass(frozen=True, slots=True)
class LineFigures:
    """One label that crossed one line in one direction, over the day."""

    source: str
    """The camera, video or folder of the line."""
    line: str
    """Its name."""
    direction: str
    """The line's name for the direction."""
    label: str
    """Class name."""
    hours: tuple[LineHour, ...]
    """The hours in which it was crossed; not empty."""

    @property
    def crossings(self) -> int:
        """How often the line was crossed on the day."""
        return sum(hour.crossings for hour in self.hours)

    def by_hour(self, hours: int) -> tuple[int, ...]:
        """Returns the crossings in each hour of a day of so many hours."""
        counts = [0] * hours
        for one in self.hours:
            counts[one.hour] += one.crossings
        return tuple(counts)


def read_zones(session: DayQueries, clock: DayHours) -> tuple[ZoneFigures, ...]:
    """Reads what stood in the zones.

    Args:
        session: Opened for the day.
        clock: The hours of the day.

    Returns:
        A value for each zone and label, by source and name.

    Raises:
        PermanentError: Memory or disk of this machine do not suffice.
    """
    found: dict[tuple[str, str, str], list[ZoneHour]] = defaultdict(list)
    for source, zone, label, hour, *numbers in session.query(_ZONES.format(within=clock.condition("hour"))).rows:
        found[source, zone, label].append(ZoneHour(clock.place(hour), *numbers))
    return tuple(ZoneFigures(*key, tuple(hours)) for key, hours in found.items())


def read_lines(session: DayQueries, clock: DayHours) -> tuple[LineFigures, ...]:
    """Reads what crossed the lines; arguments, result and errors as `read_zones`."""
    found: dict[tuple[str, str, str, str], list[LineHour]] = defaultdict(list)
    rows = session.query(_LINES.format(within=clock.condition("hour"))).rows
    for source, line, direction, label, hour, *numbers in rows:
        found[source, line, direction, label].append(LineHour(clock.place(hour), *numbers))
    return tuple(LineFigures(*key, tuple(hours)) for key, hours in found.items())
