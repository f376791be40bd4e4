"""`imgpipeline events`: build and show events, and counts at zones and lines."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.options import (
    JsonOption,
    LatestOption,
    Period,
    RowFormat,
    Selection,
    SourceOption,
    days_with_frames,
    expand_options,
    show_answer,
)
from imgpipeline.cli.output import note, show_json, show_records, show_table, shown
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import Span
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.objectstore import ObjectStore
    from imgpipeline.settings import Settings

app = typer.Typer(help="Build and show events, and counts at zones and lines.")
_SHOWN = ("timestamp", "rule", "source", "place", "label", "reason", "event_id")
_NO_COUNTS = "Nothing was counted in these days; docs/events.md describes how to set up zones and lines."


@app.command("build")
@expand_options
def build(
    period: Period,
    force: Annotated[bool, typer.Option("--force", help="Evaluate everything again, even if nothing changed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build frame_changes, events, zone_occupancy and line_crossings of days that have tables, by the current rules.

    In Dagster, the assets of these names do this for every day with new data. If a rule or line follows objects, build
    the tracks first: `imgpipeline tracks build`.
    """
    from imgpipeline.events.configuration import read_rules  # noqa: PLC0415 - loads pydantic models
    from imgpipeline.events.rule_tables import build_table  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.schema import EVENT_TABLES, PLACE_TABLES  # noqa: PLC0415 - loads the package `lake`
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    span, settings = period.span(), load_settings()
    if settings.rules_file is None:
        raise UsageError("No rules are given.", next_step="set IMGPIPELINE_RULES_FILE; docs/events.md shows how")
    store = open_store(settings)
    rules = read_rules(settings, store)
    rows: list[dict[str, Any]] = []
    for day in days_with_frames(store, span):
        for table in (*EVENT_TABLES, *PLACE_TABLES):
            done = build_table(store, day, table, rules=rules, settings=settings, force=force, now=utc_now())
            rows.append({"day": day, "table": table.name, "rows": done.manifest.rows, "skipped": done.skipped})
    if as_json:
        show_json(rows)
    else:
        show_records(rows)


@app.command("list")
@expand_options
def list_them(
    period: Period,
    rule: Annotated[str | None, typer.Option(help="Only events of this rule.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only events of rules of this kind, such as image_change.")] = None,
    source: SourceOption = None,
    limit: LatestOption = 100,
    *,
    rows: RowFormat,
) -> None:
    """List events, latest first. --json and --csv show all columns: frames, images, times.

    Without --day, --from and --to, lists the events of all UTC days. Events are found when the tables of a day are
    built, so those of the last minutes may be missing.
    """
    from imgpipeline.lake.query.events import WantedEvents, find_events  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    span, settings = period.span(), load_settings()
    store = open_store(settings)
    found, matching = find_events(store, settings, span, WantedEvents(rule, source, kind), limit)
    events = found.to_pylist()
    rows.show(
        found.column_names,
        [list(event.values()) for event in events],
        table=lambda: show_table(_SHOWN, [[event[name] for name in _SHOWN] for event in events]),
        empty=None if events else f"No events match ({span}){_why_none(store, settings, span)}.",
    )
    if matching > len(events):
        note(f"Showing the latest {len(events):,} of {matching:,} events ({span}); --limit shows more.")


def _why_none(store: "ObjectStore", settings: "Settings", span: Span) -> str:
    from imgpipeline.lake.build.summary_inputs import list_versions  # noqa: PLC0415 - loads DuckDB

    if settings.rules_file is None:
        return "; IMGPIPELINE_RULES_FILE is not set, so no events are built"
    if not any(day in span for day in list_versions(store, "events")):
        return "; no events are built for these days: Dagster builds them, or imgpipeline events build --day 2026-01-09"
    return ""


@app.command("clip")
def clip(
    event_id: Annotated[str, typer.Argument(help="The event, as shown by `events list`.", metavar="EVENT_ID")],
    *,
    out: Annotated[Path, typer.Option("--out", help="The file to write, .mp4 or .gif.", metavar="FILE")],
    before_s: Annotated[float, typer.Option("--before", min=0, help="Seconds before the event.")] = 5.0,
    after_s: Annotated[float, typer.Option("--after", min=0, help="Seconds after the event.")] = 5.0,
    speed: Annotated[float, typer.Option("--speed", min=0.01, help="Playback speed; 2 is twice as fast.")] = 1.0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of frames; a longer clip is cut.")] = 600,
    as_json: JsonOption = False,
) -> None:
    """Write the frames before, during and after an event as a video or an animated GIF.

    Each frame is shown with its boxes until the time of the next frame. A grey frame with a note replaces a missing
    image, for example one that image retention has deleted.
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
@expand_options
def zones(wanted: Selection, rows: RowFormat) -> None:
    """Show how many objects were in each zone, by UTC hour and label.

    Hours in which a zone was empty have no row. rules.toml defines the zones.
    """
    show_answer(lambda lake: lake.zone_occupancy, wanted, rows, empty=_NO_COUNTS)


@app.command("lines")
@expand_options
def lines(wanted: Selection, rows: RowFormat) -> None:
    """Show how often each line was crossed, by UTC hour, label and direction.

    Only tracked objects cross lines, so the day needs tracks. rules.toml defines the lines.
    """
    show_answer(lambda lake: lake.line_crossings, wanted, rows, empty=_NO_COUNTS)
