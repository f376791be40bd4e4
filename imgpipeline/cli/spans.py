"""Which days a command is about: the options `--day`, `--from` and `--to`.

Owns reading them, and finding the days of a span that the ledger knows. All days are UTC.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.errors import UsageError

if TYPE_CHECKING:
    from imgpipeline.objectstore import ObjectStore

OnlyDayOption = Annotated[str | None, typer.Option("--day", help="Only this day (UTC), such as 2026-01-09.")]
FromOption = Annotated[str | None, typer.Option("--from", help="From this day on (UTC).")]
ToOption = Annotated[str | None, typer.Option("--to", help="Up to this day (UTC); it is included.")]


@dataclass(frozen=True, slots=True)
class Span:
    """Days, both ends included."""

    first: date | None
    """From this UTC day on; None: from the first there is."""
    last: date | None
    """Up to this UTC day; None: up to the last there is."""

    @property
    def is_all(self) -> bool:
        """Whether it leaves no day out."""
        return self.first is None and self.last is None

    def __contains__(self, day: date) -> bool:
        return (self.first is None or self.first <= day) and (self.last is None or day <= self.last)

    def __str__(self) -> str:
        if self.first == self.last:
            return str(self.first or "all days")
        return f"{self.first or 'the first day'} to {self.last or 'the last day'}"


def parse_day(text: str, option: str = "--day") -> date:
    """Returns the day of an option.

    Raises:
        UsageError: It is no day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} is {text!r}.", next_step="give a day such as 2026-01-09") from None


def optional_day(text: str | None, option: str = "--day") -> date | None:
    """Returns the day of an option, or None where it was not given; otherwise as `parse_day`."""
    return None if text is None else parse_day(text, option)


def read_span(day: str | None, first: str | None, last: str | None) -> Span:
    """Reads the three options.

    Raises:
        UsageError: One of them is no day, the span ends before it begins, or `--day` was given together with `--from`
            or `--to`.
    """
    if day and (first or last):
        raise UsageError("--day and --from or --to are both given.", next_step="give one day, or a span")
    only = optional_day(day)
    span = Span(only or optional_day(first, "--from"), only or optional_day(last, "--to"))
    if span.first and span.last and span.first > span.last:
        raise UsageError(
            f"--from {span.first} is later than --to {span.last}.", next_step="swap them; both days are included"
        )
    return span


def days_of(store: "ObjectStore", span: Span, *, with_neighbours: bool = False) -> list[date]:
    """Returns the days of a span that the ledger knows, sorted: one listing, however long the span is.

    Args:
        store: The object store.
        span: The days that are asked for.
        with_neighbours: Also days beside those: days of another time zone hold parts of the UTC days around them.
    """
    from imgpipeline.ledger import known_days  # noqa: PLC0415 - loads obstore

    around = (-1, 0, 1) if with_neighbours else (0,)
    known = {day + timedelta(days=n) for day in known_days(store) for n in around}
    return sorted(day for day in known if day in span)
