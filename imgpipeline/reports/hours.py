"""The hours of a reported day: 24, or one more or less on a local day on which the clock is changed."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from imgpipeline.contracts.times import format_time
from imgpipeline.lake.sessions.local_time import hours_of, local_days


@dataclass(frozen=True, slots=True)
class DayHours:
    """The hours of one day."""

    names: tuple[str, ...]
    """What the clock shows, such as `07`; with the offset from UTC where it shows that hour twice: `02 +01:00`."""
    starts: tuple[datetime, ...]
    """The instant at which each begins, UTC."""
    end: datetime
    """The instant at which the last of them ends, UTC."""

    @property
    def places(self) -> Mapping[datetime, int]:
        """The number of each hour by its start."""
        return {start: place for place, start in enumerate(self.starts)}

    def place(self, at: datetime) -> int:
        """Returns the number of the hour that an instant of the day lies in."""
        return max(0, bisect_right(self.starts, at) - 1)

    def condition(self, column: str) -> str:
        """Returns SQL that is true if a time lies in the day; `column` is an identifier as SQL has it."""
        return (
            f"({column} >= TIMESTAMPTZ '{format_time(self.starts[0])}' "
            f"AND {column} < TIMESTAMPTZ '{format_time(self.end)}')"
        )

    def span(self, place: int) -> tuple[datetime, datetime]:
        """Returns the instants at which an hour begins and ends, UTC."""
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
