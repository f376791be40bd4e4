"""The options `--day`, `--from` and `--to`; `imgpipeline.lake.query.days` reads their values."""

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from imgpipeline.lake.query.days import Span
    from imgpipeline.objectstore import ObjectStore

OneDayOption = Annotated[str, typer.Option("--day", help="The day (UTC), such as 2026-01-09.")]
OnlyDayOption = Annotated[str | None, typer.Option("--day", help="Only this day (UTC), such as 2026-01-09.")]
FromOption = Annotated[str | None, typer.Option("--from", help="First day (UTC).")]
ToOption = Annotated[str | None, typer.Option("--to", help="Last day (UTC); it is included.")]


def days_with_frames(store: "ObjectStore", span: "Span") -> list[date]:
    """Returns the days of a span that a build is for: the one that is named, or those with a table `frames`.

    Raises:
        UsageError: The span is all days.
        ConfigurationError: No day of it has the table.
        TransientError: The store does not answer.
    """
    from imgpipeline.lake.build.day_tables import list_days  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.schema import FRAMES  # noqa: PLC0415 - as above

    if span.is_all:
        raise UsageError("No days are given.", next_step="give --day 2026-01-09, or --from and --to")
    if span.first is not None and span.first == span.last:
        return [span.first]
    days = [day for day in list_days(store, FRAMES.name) if day in span]
    if not days:
        raise ConfigurationError(
            f"No day of {span} has a table `frames`.", next_step="`imgpipeline status` shows the days"
        )
    return days
