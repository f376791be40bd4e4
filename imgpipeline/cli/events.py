"""`imgpipeline events`: what the rules found, and what is counted at zones and lines."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.answers import LabelOption, SourceOption, show_answer
from imgpipeline.cli.day_options import FromOption, OnlyDayOption, ToOption
from imgpipeline.cli.events_build import build
from imgpipeline.cli.output import (
    CsvOption,
    JsonOption,
    LatestOption,
    note,
    refuse_two_formats,
    show_csv,
    show_json,
    show_table,
    shown,
)
from imgpipeline.contracts.text import counted
from imgpipeline.lake.query.days import Span, read_span
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.objectstore import ObjectStore
    from imgpipeline.settings import Settings

app = typer.Typer(help="What the rules found, and what is counted at zones and lines.")
_SHOWN = ("timestamp", "rule", "source", "place", "label", "reason", "event_id")
_NO_COUNTS = "Nothing was counted in these days; docs/events.md describes how zones and lines are set up."


@app.callback()
def _group() -> None:
    """What the rules found, and what is counted at zones and lines."""


app.command("build")(build)


@app.command("list")
def list_them(  # noqa: PLR0913 - one parameter an option
    *,
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    rule: Annotated[str | None, typer.Option(help="Only events of this rule.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only events of rules of this kind, such as image_change.")] = None,
    source: Annotated[str | None, typer.Option(help="Only events of this source.")] = None,
    limit: LatestOption = 100,
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
    store = open_store(settings)
    found, matching = find_events(store, settings, span, WantedEvents(rule, source, kind), limit)
    rows = found.to_pylist()
    if as_json:
        show_json(rows)
    elif as_csv:
        show_csv(found.column_names, [list(row.values()) for row in rows])
    elif rows:
        show_table(_SHOWN, [[row[name] for name in _SHOWN] for row in rows])
    else:
        note(f"No events match ({span}){_why_none(store, settings, span)}.")
    if matching > len(rows):
        note(f"Showing the latest {len(rows):,} of {matching:,} events ({span}); --limit shows more.")


def _why_none(store: "ObjectStore", settings: "Settings", span: Span) -> str:
    from imgpipeline.lake.build.summary_inputs import list_versions  # noqa: PLC0415 - loads DuckDB

    if settings.rules_file is None:
        return "; IMGPIPELINE_RULES_FILE is not set, so no events are built"
    if not any(day in span for day in list_versions(store, "events")):
        return "; none of these days has events yet: Dagster builds them, or imgpipeline events build --day 2026-01-09"
    return ""


@app.command("clip")
def clip(
    event_id: Annotated[str, typer.Argument(help="The event, as `events list` names it.", metavar="EVENT_ID")],
    *,
    out: Annotated[Path, typer.Option("--out", help="The file to write, .mp4 or .gif.", metavar="FILE")],
    before_s: Annotated[float, typer.Option("--before", min=0, help="Seconds before the event.")] = 5.0,
    after_s: Annotated[float, typer.Option("--after", min=0, help="Seconds after it.")] = 5.0,
    speed: Annotated[float, typer.Option("--speed", min=0.01, help="How many times faster than it happened.")] = 1.0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Frames; a longer clip ends early.")] = 600,
    as_json: JsonOption = False,
) -> None:
    """Write the frames before, during and after an event as a video or an animated GIF.

    Each frame is shown with its boxes until the time of the next one. An image that is missing, for example because
    image retention has deleted it, is a grey frame that says so.
    """
    from imgpipeline.events.clips import ClipWish, write_event_clip  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.events.reading import read_event  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    settings = load_settings()
    store = open_store(settings)
    event = read_event(store, settings, event_id)
    made = write_event_clip(store, settings, event, out, ClipWish(before_s, after_s, speed, limit))
    if as_json:
        show_json({each.name: getattr(made, each.name) for each in fields(made)} | {"path": str(made.path)})
        return
    missing = f", {made.missing} without an image" if made.missing else ""
    note(f"Wrote {counted(made.frames, 'frame')} to {out}, {shown(made.first)} to {shown(made.last)}{missing}.")
    if made.is_cut:
        note("The event has more frames; --limit shows more.")


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
