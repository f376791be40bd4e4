"""`imgpipeline frames`: the frames that were looked at, and what was found in them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.output import (
    CsvOption,
    JsonOption,
    note,
    refuse_two_formats,
    show_csv,
    show_json,
    show_table,
)
from imgpipeline.cli.spans import FromOption, OnlyDayOption, Span, ToOption, days_of, read_span
from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.lake.frame_list import FrameList, WantedFrames
    from imgpipeline.objectstore import ObjectStore
    from imgpipeline.settings import Settings

app = typer.Typer(help="The frames that were looked at, and what was found in them.")


@app.callback()
def _group() -> None:
    """The frames that were looked at, and what was found in them."""


@app.command("list")
def list_them(  # noqa: PLR0913 - one parameter an option
    *,
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: Annotated[str | None, typer.Option(help="Only those of this source.")] = None,
    label: Annotated[str | None, typer.Option(help="Only those in which this label was found.")] = None,
    status: Annotated[FrameStatus | None, typer.Option(help="Only those that were taken this far.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the latest ones.")] = 100,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List frames, the latest first: file name, size in kB, time, and what was found.

    Without --day, --from and --to these are the frames of the latest day; with --source or --status, of the latest day
    that has such frames. A frame that was announced several times is listed once. All frames up to this moment are
    shown, whether or not their day was built.
    """
    from imgpipeline.lake.frame_list import WantedFrames, list_frames  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.session import open_lake  # noqa: PLC0415 - as above
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    span, settings = read_span(day, first, last), load_settings()
    store, wanted = open_store(settings), WantedFrames(source, label, status)
    if span.is_all:
        span = _latest_day(store, settings, wanted)
    with open_lake(store, days=[] if span.is_all else days_of(store, span)) as lake:
        found = list_frames(lake, wanted, limit)
    if as_json:
        show_json([asdict(frame) for frame in found.frames])
    elif as_csv:
        _show_as_csv(found)
    elif found.frames:
        _show(found)
    else:
        step = "`imgpipeline summary sources` lists the sources" if span.is_all else "--from and --to name other days"
        note(f"There are no such frames ({span}); {step}.")
    if found.matching > len(found.frames):
        note(f"Shown are the latest {len(found.frames):,} of {found.matching:,} frames ({span}); --limit shows more.")


def _latest_day(store: "ObjectStore", settings: "Settings", wanted: "WantedFrames") -> Span:
    """Returns the latest day that has such frames; all days where none has."""
    from imgpipeline.lake.frame_list import latest_day  # noqa: PLC0415 - loads DuckDB

    days = days_of(store, Span(None, None))
    if wanted.source is None and wanted.status is None:
        latest = days[-1] if days else None
    else:
        latest = latest_day(store, settings, wanted, days)
    return Span(latest, latest)


def _show(found: "FrameList") -> None:
    rows = [
        (
            frame.file,
            None if frame.size_kb is None else round(frame.size_kb, 1),
            frame.timestamp,
            frame.source,
            frame.status.value,
            _found(frame.detections),
        )
        for frame in found.frames
    ]
    show_table(["file", "kB", "time", "source", "status", "detections"], rows)


def _show_as_csv(found: "FrameList") -> None:
    columns = ("file", "size_kb", "timestamp", "detections", "labels", "source", "status", "source_image_path",
               "frame_id")  # fmt: skip
    rows = (
        (frame.file, frame.size_kb, frame.timestamp, sum(frame.detections.values()),
         _found(frame.detections), frame.source, frame.status.value, frame.source_image_path, frame.frame_id)
        for frame in found.frames
    )  # fmt: skip
    show_csv(columns, rows)


def _found(detections: Mapping[str, int]) -> str:
    return ", ".join(f"{label} {count}" for label, count in detections.items())
