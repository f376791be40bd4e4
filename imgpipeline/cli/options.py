"""How commands are declared, and the options that several of them share.

A parameter of a command can be a whole group of options, such as `Period` or `RowFormat`.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import date
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from imgpipeline.cli.output import MOST_ROWS, Columns, note, show_json, show_records, show_table, write_text
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.text import csv_text
from imgpipeline.contracts.times import check_timezone
from imgpipeline.errors import BadInputError, ConfigurationError, UsageError
from imgpipeline.lake.query.days import Span, read_span
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings

STORE_PATIENCE_S = 5.0
"""How long an interactive diagnostic command retries a request to the object store."""
NO_TRACKS = "No tracks match. They are built per day: imgpipeline build --day DAY"
_Command = TypeVar("_Command", bound=Callable[..., None])


def _check_timezone(name: str | None) -> str | None:
    try:
        return None if name is None else check_timezone(name)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
LatestOption = Annotated[int, typer.Option("--limit", min=1, help="Show at most this many, latest first.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would be done.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Process everything again, even if nothing changed.")]
OutputFileOption = Annotated[Path, typer.Option("--output", "-o", help="The file to write.", metavar="FILE")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Keep running, and continue with what is new.")]
DurationOption = Annotated[float | None, typer.Option("--duration", min=0.1, help="Stop after this many seconds.")]
OneDayOption = Annotated[str, typer.Option("--day", help="UTC day, such as 2026-01-09.")]
OnlyDayOption = Annotated[str | None, typer.Option("--day", help="Only this UTC day, such as 2026-01-09.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="Only this source.")]
LabelOption = Annotated[str | None, typer.Option("--label", help="Only this label.")]
CredentialsEnvOption = Annotated[
    str | None,
    typer.Option("--credentials-env", metavar="NAME", help="Variable with user:password, in the environment or .env."),
]
CredentialsFileOption = Annotated[
    Path | None, typer.Option("--credentials-file", help="File whose first line is user:password.")
]
MessageFormatOption = Annotated[
    MessageFormat,
    typer.Option(
        "--message-format",
        help="native: all fields. classic: only image_path (s3://…) and upload_timestamp. backfill: with "
        "backfill_timestamp instead. bucket: image_key, bucket_name, timestamp and uuid, with the image's key as key. "
        "classic-video: frame_id, video_id and timestamp, without a key, on all topics of IMGPIPELINE_KAFKA_TOPIC.",
    ),
]


def require_bucket(settings: Settings, form: MessageFormat) -> None:
    """Raises a UsageError if messages would name a bucket, and the store is a folder."""
    if form is MessageFormat.BUCKET and not settings.store_url.startswith("s3://"):
        raise UsageError(
            f"--message-format bucket names a bucket, but the store is {settings.store_url}.",
            next_step="set IMGPIPELINE_STORE_URL to s3://…, or choose another form",
        )


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
    """The options for how records are printed: as a table, as JSON or as CSV."""

    as_json: JsonOption = False
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False

    def __post_init__(self) -> None:
        if self.as_json and self.as_csv:
            raise UsageError("--json and --csv are both given.", next_step="give one of them")

    def show(
        self,
        records: Sequence[Mapping[str, Any]],
        columns: Columns | None = None,
        *,
        fields: Sequence[str] | None = None,
        empty: str | Callable[[], str] | None = None,
        title: str | None = None,
    ) -> None:
        """Prints records.

        Args:
            columns: The fields of the table; None: all, with values and names as they are.
            fields: The fields of JSON and CSV; None: all that the records have.
            empty: Noted instead of a table without rows.
            title: Shown above the table.
        """
        names = list(dict.fromkeys(name for record in records for name in record)) if fields is None else fields
        if self.as_json:
            show_json(records if fields is None else [{name: record[name] for name in fields} for record in records])
        elif self.as_csv:
            write_text(csv_text(names, [[record.get(name) for name in names] for record in records]))
        elif empty is not None and not records:
            note(empty() if callable(empty) else empty)
        elif columns is None:
            show_table(names, [[record[name] for name in names] for record in records], title=title, most=MOST_ROWS)
        else:
            show_records(records, columns, title=title, most=MOST_ROWS)


def command(group: typer.Typer, name: str) -> Callable[[_Command], _Command]:
    """Registers a function as a command of a group.

    Each field of a dataclass parameter becomes an option. Paragraphs of the help text wrap at the terminal's width:
    Typer itself wraps only the first. Lists and examples keep their lines.
    """

    def register(function: _Command) -> _Command:
        group.command(name, help=_joined(inspect.getdoc(function) or ""))(_with_options(function))
        return function

    return register


def _joined(text: str) -> str:
    return "\n\n".join(
        part if any(line.startswith((" ", "* ", "- ", "\b")) for line in part.split("\n")) else part.replace("\n", " ")
        for part in text.split("\n\n")
    )


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    groups: dict[str, Any] = {name: kind for name, kind in function.__annotations__.items() if is_dataclass(kind)}
    if not groups:
        return function

    @wraps(function)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        function(**given)

    options: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            options += [_option(field) for field in fields(groups[name])]
        else:
            options.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def _option(field: Field[Any]) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type)


@contextlib.contextmanager
def from_arguments(next_step: str) -> Iterator[None]:
    """Turns the rejection of a value that the user gave into a `UsageError`, with a next step if it has none."""
    try:
        yield
    except (ConfigurationError, BadInputError) as error:
        raise UsageError(error.message, next_step=error.next_step or next_step) from error


def timezone_settings(name: str | None) -> dict[str, object]:
    """Returns the setting that `--timezone` overrides; empty if the option is not given."""
    return {} if name is None else {"timezone": name}


def open_site(**overrides: object) -> "tuple[Settings, ObjectStore]":
    """Returns the settings, with some values replaced, and the store that they name."""
    settings = load_settings(**overrides)
    return settings, open_store(settings)


def followed_topic(settings: Settings, topic: str | None) -> Settings:
    """Returns the settings for one of the followed topics; None keeps all of them."""
    if topic is None:
        return settings
    if topic not in settings.kafka_topics:
        raise UsageError(
            f"The topic {topic} is not followed. Followed topics: {', '.join(settings.kafka_topics)}.",
            next_step="name one of them, or add it to IMGPIPELINE_KAFKA_TOPIC",
        )
    return settings.model_copy(update={"kafka_topics": (topic,)})


def days_with_frames(store: "ObjectStore", span: Span, *, are_built: bool = True) -> list[date]:
    """Returns the days to work on: a single named day, or those of the span that have frames.

    Args:
        span: The days that were asked for.
        are_built: Whether the day needs a table `frames`; otherwise frames in the ledger are enough.

    Raises:
        UsageError: The span is not limited.
        ConfigurationError: No day of the span has them.
    """
    from imgpipeline.lake.days.day_tables import list_days
    from imgpipeline.lake.query.days import name_nearest_days
    from imgpipeline.lake.schema.tables import FRAMES
    from imgpipeline.ledger.days import known_days

    if span.is_all:
        raise UsageError("No days are given.", next_step="give --day 2026-01-09, or --from and --to")
    if span.first is not None and span.first == span.last:
        return [span.first]
    found = sorted({*list_days(store, FRAMES.name), *([] if are_built else known_days(store))})
    days = [day for day in found if day in span]
    if not days:
        near, what = span.last or span.first or date.min, "a table `frames`" if are_built else "frames"
        raise ConfigurationError(
            f"No day of {span} has {what}. Days that have: {name_nearest_days(found, near)}.",
            next_step="name one of these days" + (", or build the others: `imgpipeline build`" if are_built else ""),
        )
    return days
