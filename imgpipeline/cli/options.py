"""Options that several commands share, and the checks of their values.

`expand_options` gives a command a whole group of options, such as `Period`, as one parameter.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from imgpipeline.cli.output import MOST_ROWS, note, show_csv, show_json, show_records, show_table
from imgpipeline.contracts.times import check_timezone
from imgpipeline.errors import BadInputError, ConfigurationError, UsageError
from imgpipeline.lake.query.days import Span, read_span
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    import pyarrow as pa

    from imgpipeline.lake.query.lake import Lake
    from imgpipeline.objectstore import ObjectStore


def _check_timezone(name: str | None) -> str | None:
    try:
        return None if name is None else check_timezone(name)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")]
LatestOption = Annotated[int, typer.Option("--limit", min=1, help="Show at most this many, latest first.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
OneDayOption = Annotated[str, typer.Option("--day", help="UTC day, such as 2026-01-09.")]
OnlyDayOption = Annotated[str | None, typer.Option("--day", help="Only this UTC day, such as 2026-01-09.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="Only this source.")]
LabelOption = Annotated[str | None, typer.Option("--label", help="Only this label.")]
TimezoneOption = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        metavar="NAME",
        callback=_check_timezone,
        help="IANA time zone, such as Asia/Kolkata. Default: IMGPIPELINE_TIMEZONE, else UTC.",
    ),
]


@dataclass(frozen=True, slots=True)
class Period:
    """The options that select days."""

    day: OnlyDayOption = None
    first: Annotated[str | None, typer.Option("--from", help="First UTC day.")] = None
    last: Annotated[str | None, typer.Option("--to", help="Last UTC day, inclusive.")] = None

    def span(self) -> Span:
        """Returns the days; raises a UsageError if an option is not a day, or the options contradict each other."""
        return read_span(self.day, self.first, self.last)


@dataclass(frozen=True, slots=True)
class Selection(Period):
    """The options that select rows of a table of the lake."""

    source: SourceOption = None
    label: LabelOption = None


@dataclass(frozen=True, slots=True)
class RowFormat:
    """The options for how rows are printed: as a table, as JSON or as CSV."""

    as_json: JsonOption = False
    as_csv: CsvOption = False

    def __post_init__(self) -> None:
        if self.as_json and self.as_csv:
            raise UsageError("--json and --csv are both given.", next_step="give one of them")

    def show(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        table: Callable[[], object] | None = None,
        empty: str | None = None,
    ) -> None:
        """Prints rows.

        Args:
            columns: The columns of the rows.
            rows: The rows.
            table: Prints the table; None: the table shows the rows as they are.
            empty: Noted instead of a table without rows.
        """
        if self.as_json:
            show_json([dict(zip(columns, row, strict=True)) for row in rows])
        elif self.as_csv:
            show_csv(columns, rows)
        elif empty is not None and not rows:
            note(empty)
        elif table is not None:
            table()
        else:
            show_table(columns, rows)


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command one option for each field of its dataclass parameters, in place of these parameters."""
    hints = get_type_hints(command, include_extras=True)
    own = inspect.signature(command).parameters
    groups = {name: hints[name] for name in own if is_dataclass(hints[name])}

    @wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    options: list[inspect.Parameter] = []
    for name, parameter in own.items():
        if name in groups:
            options += _options_of(groups[name])
        else:
            options.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def _options_of(group: type[Any]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )


@contextlib.contextmanager
def from_arguments(next_step: str) -> Iterator[None]:
    """Turns the rejection of a value that the user gave into a `UsageError`.

    Args:
        next_step: What to do if the rejection does not say it.

    Raises:
        UsageError: A value was rejected.
    """
    try:
        yield
    except (ConfigurationError, BadInputError) as error:
        raise UsageError(error.message, next_step=error.next_step or next_step) from error


def timezone_settings(name: str | None) -> dict[str, object]:
    """Returns the setting that `--timezone` overrides; empty if the option is not given."""
    return {} if name is None else {"timezone": name}


def followed_topic(settings: Settings, topic: str | None) -> Settings:
    """Returns the settings for one of the followed topics; None keeps all of them.

    Raises:
        UsageError: The settings do not name the topic.
    """
    if topic is None:
        return settings
    if topic not in settings.kafka_topics:
        raise UsageError(
            f"The topic {topic} is not followed. Followed topics: {', '.join(settings.kafka_topics)}.",
            next_step="name one of them, or add it to IMGPIPELINE_KAFKA_TOPIC",
        )
    return settings.model_copy(update={"kafka_topic": topic})


def days_with_frames(store: "ObjectStore", span: Span) -> list[date]:
    """Returns the days to build: a single named day, or those of the span that have a table `frames`.

    Raises:
        UsageError: The span is not limited.
        ConfigurationError: No day of the span has the table.
        TransientError: The store does not answer.
    """
    from imgpipeline.lake.build.day_tables import list_days  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.query.days import name_nearest_days  # noqa: PLC0415 - as above
    from imgpipeline.lake.schema import FRAMES  # noqa: PLC0415 - as above

    if span.is_all:
        raise UsageError("No days are given.", next_step="give --day 2026-01-09, or --from and --to")
    if span.first is not None and span.first == span.last:
        return [span.first]
    built = list(list_days(store, FRAMES.name))
    days = [day for day in built if day in span]
    if not days:
        near = span.last or span.first or date.min
        raise ConfigurationError(
            f"No day of {span} has a table `frames`. Days that have one: {name_nearest_days(built, near)}.",
            next_step="name one of these days, or materialize the day tables of the others in Dagster",
        )
    return days


def show_answer(
    question: "Callable[[Lake[pa.Table]], Callable[..., pa.Table]]",
    wanted: Selection,
    rows: RowFormat,
    columns: Sequence[str] | None = None,
    *,
    empty: str,
) -> None:
    """Asks the lake for the selected rows and prints them.

    Args:
        question: Returns the method of the lake that answers.
        wanted: The selected days, source and label.
        rows: How the rows are printed.
        columns: The columns of the table; None: all except `day`. JSON and CSV have all columns.
        empty: Noted instead of an empty table.
    """
    wanted.span()  # refuses wrong days before DuckDB is loaded
    from imgpipeline.lake.query.lake import open_arrow_lake  # noqa: PLC0415 - loads DuckDB

    with open_arrow_lake(load_settings()) as lake:
        found = question(lake)(
            wanted.day, from_day=wanted.first, to_day=wanted.last, source=wanted.source, label=wanted.label
        )
    records = found.to_pylist()
    shown = columns or [name for name in found.column_names if name != "day"]
    rows.show(
        found.column_names,
        [list(record.values()) for record in records],
        table=lambda: show_records(records, shown, most=MOST_ROWS),
        empty=empty,
    )
