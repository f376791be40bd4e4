"""Parses the days that a question is about: one day, or a span with both ends included."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from imgpipeline.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from imgpipeline.objectstore import ObjectStore

_MOST_NAMED = 8
"""Maximum number of days that an error message names."""
Day = date | str
"""A day as an argument: a `date`, or text such as `2026-01-09`."""


@dataclass(frozen=True, slots=True)
class Span:
    """Days, both ends included."""

    first: date | None = None
    """The first day; None: no lower bound."""
    last: date | None = None
    """The last day; None: no upper bound."""

    @property
    def is_all(self) -> bool:
        """Whether it includes all days."""
        return self.first is None and self.last is None

    def __contains__(self, day: date) -> bool:
        return (self.first is None or self.first <= day) and (self.last is None or day <= self.last)

    def __str__(self) -> str:
        if self.first == self.last:
            return str(self.first or "all days")
        return f"{self.first or 'the first day'} to {self.last or 'the last day'}"


@dataclass(frozen=True, slots=True)
class DayNames:
    """Names of the three arguments in error messages."""

    day: str = "day"
    first: str = "from_day"
    last: str = "to_day"


ARGUMENTS = DayNames()
"""The arguments of `Lake`."""
OPTIONS = DayNames("--day", "--from", "--to")
"""The options of the commands."""


def parse_day(given: Day, name: str = OPTIONS.day) -> date:
    """Reads a day.

    Args:
        given: A date, a datetime or pandas Timestamp at midnight without a time zone, or text such as `2026-01-09`.
        name: Name of the argument in error messages.

    Raises:
        UsageError: It is not a day.
    """
    if isinstance(given, datetime):
        if given.tzinfo is None and given.time() == time():
            return given.date()
    elif isinstance(given, date):
        return given
    elif isinstance(given, str):
        try:
            return date.fromisoformat(given)
        except ValueError:
            pass
    shown = str(given) if isinstance(given, date) else repr(given)
    raise UsageError(f"{name} is {shown}.", next_step="give a day such as 2026-01-09")


def optional_day(given: Day | None, name: str = OPTIONS.day) -> date | None:
    """Like `parse_day`, but accepts None."""
    return None if given is None else parse_day(given, name)


def read_span(day: Day | None, first: Day | None, last: Day | None, names: DayNames = OPTIONS) -> Span:
    """Reads one day, or the ends of a span.

    Raises:
        UsageError: One of them is not a day, the span ends before it starts, or `day` is given together with an end.
    """
    if day and (first or last):
        raise UsageError(
            f"{names.day} and {names.first} or {names.last} are both given.", next_step="give one day, or a span"
        )
    only = optional_day(day, names.day)
    span = Span(only or optional_day(first, names.first), only or optional_day(last, names.last))
    if span.first and span.last and span.first > span.last:
        raise UsageError(
            f"{names.first} {span.first} is later than {names.last} {span.last}.",
            next_step="swap them; both days are included",
        )
    return span


def days_of(store: "ObjectStore", span: Span, *, with_neighbours: bool = False) -> list[date]:
    """Returns the days of a span that the ledger knows, sorted. Costs one listing, whatever the span.

    Args:
        with_neighbours: Include days next to known days, which overlap them in other time zones.
    """
    from imgpipeline.ledger.days import known_days  # noqa: PLC0415 - loads obstore

    around = (-1, 0, 1) if with_neighbours else (0,)
    known = {day + timedelta(days=n) for day in known_days(store) for n in around}
    return sorted(day for day in known if day in span)


def unknown_day(day: date, days: Collection[date]) -> ConfigurationError:
    """Returns the error for a day that the ledger does not know. It names the closest of `days`."""
    return ConfigurationError(
        f"The ledger has nothing of {day}.", next_step=f"take one of its days: {name_nearest_days(days, day)}"
    )


def nearest_day(days: Collection[date], wanted: date) -> date:
    """Returns the day closest to the wanted one, the earlier of two; there must be at least one."""
    return min(days, key=lambda day: (abs(day - wanted), day))


def name_nearest_days(days: Collection[date], wanted: date) -> str:
    """Returns the closest days in order, such as `2026-01-09, 2026-01-11 (the nearest of 90)`; `none` without any."""
    nearest = sorted(sorted(days, key=lambda day: (abs(day - wanted), day))[:_MOST_NAMED])
    more = f" (the nearest of {len(days)})" if len(days) > len(nearest) else ""
    return (", ".join(day.isoformat() for day in nearest) or "none") + more
