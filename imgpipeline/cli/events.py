"""`imgpipeline events`: what the rules found."""

from typing import Annotated

import typer

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

app = typer.Typer(help="What the rules found.")
_SHOWN = ("timestamp", "rule", "source", "place", "label", "reason", "event_id")


@app.callback()
def _group() -> None:
    """What the rules found."""


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
