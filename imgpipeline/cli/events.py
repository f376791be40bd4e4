"""`imgpipeline events`: what the rules found, and what is counted at zones and lines."""

from typing import Annotated

import typer

from imgpipeline.cli.answers import LabelOption, SourceOption, show_answer
from imgpipeline.cli.day_options import FromOption, OnlyDayOption, ToOption
from imgpipeline.cli.output import (
    CsvOption,
    JsonOption,
    note,
    refuse_two_formats,
    show_csv,
    show_json,
    show_table,
)
from imgpipeline.lake.query.days import read_span
from imgpipeline.settings import load_settings

app = typer.Typer(help="What the rules found, and what is counted at zones and lines.")
_SHOWN = ("timestamp", "rule", "source", "place", "label", "reason", "event_id")
_NO_COUNTS = "Nothing was counted in these days; docs/events.md describes how zones and lines are set up."


@app.callback()
def _group() -> None:
    """What the rules found, and what is counted at zones and lines."""


@app.command("list")
def list_them(  # noqa: PLR0913 - one parameter an option
    *,
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    rule: Annotated[str | None, typer.Option(help="Only events of this rule.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only events of rules of this kind, such as image_change.")] = None,
    source: Annotated[str | None, typer.Option(help="Only events of this source.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many, the latest ones.")] = 100,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List events, the latest first. --json and --csv show all columns: frames, images, times.

    Without --day, --from and --to, lists the events of all days (UTC). Events are found when a day's tables are built,
    so those of the last minutes may be missing.
    """
    from imgpipeline.lake.query.events import WantedEvents, find_events  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    span, settings = read_span(day, first, last), load_settings()
    found, matching = find_events(open_store(settings), settings, span, WantedEvents(rule, source, kind), limit)
    rows = found.to_pylist()
    if as_json:
        show_json(rows)
    elif as_csv:
        show_csv(found.column_names, [list(row.values()) for row in rows])
    elif rows:
        show_table(_SHOWN, [[row[name] for name in _SHOWN] for row in rows])
    else:
        step = "" if settings.rules_file else "; IMGPIPELINE_RULES_FILE is not set, so no events are built"
        note(f"No events match ({span}){step}.")
    if matching > len(rows):
        note(f"Showing the latest {len(rows):,} of {matching:,} events ({span}); --limit shows more.")


@app.command("zones")
def zones(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: SourceOption = None,
    label: LabelOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show what stood in each zone by hour (UTC) and label.

    Hours in which a zone was empty have no row. Zones are those of rules.toml.
    """
    read_span(day, first, last)
    show_answer(
        lambda lake: lake.zone_occupancy(day, from_day=first, to_day=last, source=source, label=label),
        empty=_NO_COUNTS,
        as_json=as_json,
        as_csv=as_csv,
    )


@app.command("lines")
def lines(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: SourceOption = None,
    label: LabelOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show how often each line was crossed by hour (UTC), label and direction.

    Only tracked objects cross lines, so the day needs tracks. Lines are those of rules.toml.
    """
    read_span(day, first, last)
    show_answer(
        lambda lake: lake.line_crossings(day, from_day=first, to_day=last, source=source, label=label),
        empty=_NO_COUNTS,
        as_json=as_json,
        as_csv=as_csv,
    )
