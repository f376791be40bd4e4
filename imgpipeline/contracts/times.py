"""Parses and formats times: timezone-aware UTC, RFC 3339. Clocks are passed in, never read here."""

import re
from datetime import UTC, date, datetime, tzinfo

from imgpipeline.contracts.timezones import as_utc

_MILLISECONDS_FROM = 1e11
"""Numbers above this are Unix milliseconds (in seconds they would lie beyond the year 5000)."""
_DATE_FIRST = re.compile(r"\d{4}-\d\d-\d\d([Tt ]|$)", re.ASCII)


def parse_time(value: str | float, zone: tzinfo = UTC) -> datetime:
    """Reads a time as producers write it.

    Args:
        value: RFC 3339 text, or Unix time as a number, in seconds or, above 1e11, in milliseconds.
        zone: The time zone of text without an offset (`timezones.as_utc`).

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
    # Python reads more than RFC 3339: the 13 digits of Unix milliseconds, say, as a date of the year 1736.
    if not _DATE_FIRST.match(text):
        raise ValueError(f"{value!r} does not begin as 2026-01-09 does")
    time = datetime.fromisoformat(text.upper())
    try:
        return as_utc(time, zone) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{value} lies outside the years 1 to 9999 in UTC") from error


def format_time(time: datetime) -> str:
    """Writes an aware time as RFC 3339 in UTC with microseconds, such as `2026-01-09T12:00:00.250000Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"  # for +00:00


def day_of(time: datetime) -> date:
    """Returns the UTC day of an aware time: the unit of every daily table."""
    return time.astimezone(UTC).date()


def from_milliseconds(timestamp_ms: int) -> datetime | None:
    """Returns the time of a Kafka timestamp, or None if the record has none (-1) or it is not a time."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC) if timestamp_ms >= 0 else None
    except (OverflowError, OSError, ValueError):
        return None
