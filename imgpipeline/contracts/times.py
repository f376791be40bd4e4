"""Times, hours of the day and time zones.

Storage and partitions use UTC. A site's time zone applies only to times without an offset, and to the days and hours
that are shown.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from datetime import time as time_of_day
from itertools import groupby
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

Clock = Callable[[], datetime]
"""Returns the current time as aware UTC. Code that needs the time gets a clock as an argument."""

_MILLISECONDS_FROM = 1e11
"""Numbers above this are Unix milliseconds; as seconds, they would lie after the year 5000."""
_DATE_FIRST = re.compile(r"\d{4}-\d\d-\d\d([Tt ]|$)", re.ASCII)
_NOT_FIXED = ("posix/", "right/", "posixrules", "localtime", "Factory")
"""Files of the time zone database that are not IANA names, depend on the machine, or count leap seconds."""

HOURS_PATTERN = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
"""Regular expression for `Hours.parse`, for configuration files."""


def utc_now() -> datetime:
    """Returns the time of the system clock. Nothing else reads it."""
    return datetime.now(UTC)


def parse_time(value: str | float, zone: tzinfo = UTC) -> datetime:
    """Reads a time in the forms that producers use.

    Args:
        value: RFC 3339 text, or Unix time as a number: seconds, or milliseconds above 1e11.
        zone: The time zone of text without an offset (`as_utc`).

    Returns:
        The time as aware UTC with microseconds.

    Raises:
        ValueError: The value is not a time, or lies outside the years 1 to 9999.
    """
    if isinstance(value, bool):
        raise ValueError("a truth value is not a time")
    if isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value / 1000 if abs(value) > _MILLISECONDS_FROM else value, UTC)
        except (OverflowError, OSError, ValueError) as error:
            raise ValueError(f"{value} is not a Unix time") from error
    text = value.strip()
    # `fromisoformat` accepts more than RFC 3339: it reads the 13 digits of Unix milliseconds as a date in 1736.
    if not _DATE_FIRST.match(text):
        raise ValueError(f"{value!r} does not start with a date such as 2026-01-09")
    time = datetime.fromisoformat(text.upper())
    try:
        return as_utc(time, zone) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{value} lies outside the years 1 to 9999 in UTC") from error


def format_time(time: datetime) -> str:
    """Formats an aware time as RFC 3339 in UTC with microseconds, such as `2026-01-09T12:00:00.250000Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"  # instead of +00:00


Timestamp = Annotated[datetime, BeforeValidator(parse_time), PlainSerializer(format_time)]
"""A time in stored JSON."""


def day_of(time: datetime) -> date:
    """Returns the UTC day of an aware time. All daily tables use UTC days."""
    return time.astimezone(UTC).date()


def from_milliseconds(timestamp_ms: int) -> datetime | None:
    """Returns the time of a Kafka timestamp, or None if the record has none (-1) or it is out of range."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC) if timestamp_ms >= 0 else None
    except (OverflowError, OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of the day in a time zone, such as `22:00-06:00`. They may span midnight."""

    start: time_of_day
    """First moment inside."""
    end: time_of_day
    """First moment after these hours."""
    zone: tzinfo

    def contain(self, time: datetime) -> bool:
        """Returns whether an aware time lies in these hours."""
        local = time.astimezone(self.zone).time()
        if self.start <= self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end

    @classmethod
    def parse(cls, text: str, zone: tzinfo) -> "Hours":
        """Reads hours such as `06:00-20:30`.

        Raises:
            ValueError: The text is not two times.
        """
        start, dash, end = text.partition("-")
        if not dash:
            raise ValueError(f"got {text!r}, expected hours such as 06:00-20:30")
        return cls(time_of_day.fromisoformat(start.strip()), time_of_day.fromisoformat(end.strip()), zone)


def find_timezone(name: str) -> tzinfo:
    """Returns a time zone by its IANA name, such as `Asia/Kolkata`.

    Raises:
        ValueError: There is no such time zone; the message suggests similar names.
    """
    if name == "UTC":
        return UTC
    try:
        if not name.startswith(_NOT_FIXED):
            return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # a path, a folder of the database, an unknown name
        pass
    similar = _similar_names(name)
    hint = f"similar names: {', '.join(similar)}" if similar else "expected a name such as Europe/Berlin or UTC"
    raise ValueError(f"{name!r} is not an IANA time zone; {hint}")


def _similar_names(name: str) -> list[str]:
    known = sorted(zone for zone in available_timezones() if not zone.startswith(_NOT_FIXED))
    folded = {zone.casefold(): zone for zone in known}
    wanted = name.strip().replace(" ", "_").casefold()
    if wanted in folded:
        return [folded[wanted]]
    cities = [zone for zone in known if zone.casefold().rpartition("/")[2] == wanted]
    return cities[:3] or [folded[found] for found in difflib.get_close_matches(wanted, folded, n=3, cutoff=0.8)]


def check_timezone(name: str) -> str:
    """Returns the name of a time zone unchanged; raises ValueError if there is no such time zone."""
    find_timezone(name)
    return name


TimezoneName = Annotated[str, AfterValidator(check_timezone)]
"""A setting that names a time zone."""


def as_utc(local: datetime, zone: tzinfo) -> datetime:
    """Returns a local time without an offset as aware UTC.

    When daylight saving time ends, some local times occur twice: the first is used. When it begins, some are skipped:
    they shift forward with the clock, so 02:30 becomes 03:30.

    Raises:
        OverflowError: The result lies outside the years 1 to 9999.
    """
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def back_off_s(failures: int, first_s: float, longest_s: float) -> float:
    """Returns the pause after a number of failures in a row: `first_s` after the first one, doubled by each further."""
    return min(longest_s, first_s * 2.0 ** min(failures - 1, 30)) if failures else 0.0


def stretches(days: Iterable[date]) -> list[tuple[date, ...]]:
    """Groups days into stretches of consecutive days, in order."""
    numbered = enumerate(sorted(days))
    groups = groupby(numbered, key=lambda pair: pair[1].toordinal() - pair[0])
    return [tuple(day for _, day in group) for _, group in groups]
