"""Different objects of a day, from the tables `unique_objects` and `unique_totals`."""

from collections import defaultdict
from dataclasses import dataclass

from imgpipeline.reports.hours import DayHours
from imgpipeline.reports.stored_day import DayQueries

_BY_HOUR = """
SELECT source, label, hour, objects, tracks, mean_stay_s, longest_stay_s
FROM unique_objects WHERE {within} ORDER BY hour, source, label
"""
_TOTALS = """
SELECT source, label, sum(new_objects)::BIGINT FROM unique_totals WHERE {within} GROUP BY ALL
"""


@dataclass(frozen=True, slots=True)
class HourObjects:
    """The objects of one source and label in one hour."""

    hour: int
    """Place of the hour within the day, from 0."""
    source: str
    """The camera, video or folder."""
    label: str
    """Class name."""
    objects: int
    """Different objects; one that is seen in two hours counts in both."""
    tracks: int
    """Tracks, also the shortest."""
    mean_stay_s: float | None
    """Mean time from first to last sight of the objects, in seconds; None without objects."""
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
        """Tracks of the day: none reaches over the end of an hour."""
        return sum(hour.tracks for hour in self.hours)

    @property
    def mean_stay_s(self) -> float | None:
        """Mean stay in seconds over the objects of all hours; one that is seen in two hours counts in both."""
        known = [(hour.objects, hour.mean_stay_s) for hour in self.hours if hour.mean_stay_s is not None]
        seen = sum(objects for objects, _ in known)
        return sum(objects * stay_s for objects, stay_s in known) / seen if seen else None

    @property
    def longest_stay_s(self) -> float | None:
        """The longest stay, in seconds."""
        return max((hour.longest_stay_s for hour in self.hours if hour.longest_stay_s is not None), default=None)

    def by_hour(self, hours: int) -> tuple[int, ...]:
        """Returns the objects in each hour of a day of so many hours."""
        counts = [0] * hours
        for one in self.hours:
            counts[one.hour] += one.objects
        return tuple(counts)


def read_objects(session: DayQueries, clock: DayHours) -> tuple[SourceObjects, ...]:
    """Reads how many different objects there were.

    Args:
        session: Opened for the day.
        clock: The hours of the day.

    Returns:
        A value for each source and label, those with most objects first.

    Raises:
        PermanentError: Memory or disk of this machine do not suffice.
    """
    within = clock.condition("hour")
    totals = {(source, label): count for source, label, count in session.query(_TOTALS.format(within=within)).rows}
    found: dict[tuple[str, str], list[HourObjects]] = defaultdict(list)
    for source, label, hour, *numbers in session.query(_BY_HOUR.format(within=within)).rows:
        found[source, label].append(HourObjects(clock.place(hour), source, label, *numbers))
    made = [SourceObjects(*key, totals.get(key, 0), tuple(hours)) for key, hours in found.items()]
    return tuple(sorted(made, key=lambda one: (-one.objects, one.source, one.label)))
