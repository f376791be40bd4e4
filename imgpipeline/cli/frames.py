"""`imgpipeline frames`: frames, and what was found in them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.day_options import FromOption, OnlyDayOption, ToOption
from imgpipeline.cli.output import (
    CsvOption,
    JsonOption,
    LatestOption,
    note,
    refuse_two_formats,
    show_csv,
    show_json,
    show_table,
)
from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.lake.query.days import optional_day, read_span
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.lake.query.frames import FoundRows

_FIELDS = ["file", "timestamp", "source", "source_image_path", "size_bytes", "status", "frame_id", "detections"]

app = typer.Typer(help="Frames, and what was found in them.")


@app.callback()
def _group() -> None:
    """Frames, and what was found in them."""


@app.command("list")
def list_them(  # noqa: PLR0913 - one parameter an option
    *,
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: Annotated[str | None, typer.Option(help="Only frames of this source.")] = None,
    label: Annotated[str | None, typer.Option(help="Only frames in which this label was found.")] = None,
    status: Annotated[FrameStatus | None, typer.Option(help="Only frames with this status.")] = None,
    limit: LatestOption = 100,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List frames, the latest first: file name, size in kB, time, and what was found.

    Without --day, --from and --to, lists the frames of the latest day; with --source or --status, of the latest day
    that has such frames. A frame that was announced several times is listed once. Includes all frames up to this
    moment, even if their day is not built yet.
    """
    from imgpipeline.lake.query.frames import find_frames  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.query.wanted_frames import WantedFrames  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    span, settings = read_span(day, first, last), load_settings()
    found = find_frames(open_store(settings), settings, span, WantedFrames(source, label, status), limit)
    frames, span = _documents(found), found.span
    if as_json:
        show_json(frames)
    elif as_csv:
        _show_as_csv(frames)
    elif frames:
        _show(frames)
    else:
        step = "`imgpipeline summary sources` lists the sources" if span.is_all else "--from and --to name other days"
        note(f"No frames match ({span}); {step}.")
    if found.matching > len(frames):
        note(f"Showing the latest {len(frames):,} of {found.matching:,} frames ({span}); --limit shows more.")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The file's name, as `frames list` shows it, or a frame_id.")],
    day: Annotated[str | None, typer.Option(help="The UTC day. Default: the latest day.")] = None,
) -> None:
    """Show one frame with its detections, as a JSON document. Of several with the same name: the latest of the day."""
    from imgpipeline.lake.query.frames import find_named_frame  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    chosen, settings = optional_day(day), load_settings()
    show_json(find_named_frame(open_store(settings), settings, chosen, name))


def _documents(found: "FoundRows") -> list[dict[str, Any]]:
    """Returns the documents of `--json`."""
    rows = found.table.select(_FIELDS).to_pylist()
    return [{**row, "detections": dict(row["detections"])} for row in rows]


def _show(frames: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            frame["file"],
            None if frame["size_bytes"] is None else round(frame["size_bytes"] / 1000, 1),
            frame["timestamp"],
            frame["source"],
            frame["status"],
            _found(frame["detections"]),
        )
        for frame in frames
    ]
    show_table(["file", "kB", "time", "source", "status", "detections"], rows)


def _show_as_csv(frames: Sequence[Mapping[str, Any]]) -> None:
    columns = ("file", "size_kb", "timestamp", "detections", "labels", "source", "status", "source_image_path",
               "frame_id")  # fmt: skip
    calculated = (
        {
            "size_kb": None if frame["size_bytes"] is None else frame["size_bytes"] / 1000,
            "labels": _found(frame["detections"]),
            "detections": sum(frame["detections"].values()),
        }
        for frame in frames
    )
    rows = ({**frame, **more} for frame, more in zip(frames, calculated, strict=True))
    show_csv(columns, ([row[column] for column in columns] for row in rows))


def _found(detections: Mapping[str, int]) -> str:
    return ", ".join(f"{label} {count}" for label, count in detections.items())
