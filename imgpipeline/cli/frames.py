"""`imgpipeline frames`: list and show frames with their detections."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from imgpipeline.cli.options import LatestOption, Period, RowFormat, SourceOption, expand_options
from imgpipeline.cli.output import note, show_csv, show_json, show_table
from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.lake.query.days import optional_day
from imgpipeline.settings import load_settings

_FIELDS = ["file", "timestamp", "source", "source_image_path", "size_bytes", "status", "frame_id", "detections"]

app = typer.Typer(help="List and show frames with their detections.")


@app.command("list")
@expand_options
def list_them(
    period: Period,
    source: SourceOption = None,
    label: Annotated[str | None, typer.Option(help="Only frames in which this label was found.")] = None,
    status: Annotated[FrameStatus | None, typer.Option(help="Only frames with this status.")] = None,
    limit: LatestOption = 100,
    *,
    rows: RowFormat,
) -> None:
    """List frames, latest first: file name, size in kB, time and detections.

    Without --day, --from and --to, lists the frames of the latest day; with --source or --status, of the latest day
    that has such frames. A frame that was announced several times is listed once. Includes all processed frames, even
    if their day is not built yet.
    """
    from imgpipeline.lake.query.frames import find_frames  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.query.wanted_frames import WantedFrames  # noqa: PLC0415 - as above
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    asked, settings = period.span(), load_settings()
    found = find_frames(open_store(settings), settings, asked, WantedFrames(source, label, status), limit)
    frames = [{**row, "detections": dict(row["detections"])} for row in found.table.select(_FIELDS).to_pylist()]
    span = found.span
    if rows.as_json:
        show_json(frames)
    elif rows.as_csv:
        _show_csv(frames)
    elif frames:
        _show_table(frames)
    else:
        step = "`imgpipeline summary sources` lists the sources" if span.is_all else "--from and --to name other days"
        note(f"No frames match ({span}); {step}.")
    if found.matching > len(frames):
        note(f"Showing the latest {len(frames):,} of {found.matching:,} frames ({span}); --limit shows more.")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The file name, as shown by `frames list`, or a frame_id.")],
    day: Annotated[str | None, typer.Option(help="UTC day. Default: the latest day.")] = None,
) -> None:
    """Show one frame with its detections as a JSON document. Of several frames with the name, shows the latest."""
    from imgpipeline.lake.query.frames import find_named_frame  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    chosen, settings = optional_day(day), load_settings()
    show_json(find_named_frame(open_store(settings), settings, chosen, name))


def _show_table(frames: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            frame["file"],
            None if frame["size_bytes"] is None else round(frame["size_bytes"] / 1000, 1),
            frame["timestamp"],
            frame["source"],
            frame["status"],
            _labels(frame["detections"]),
        )
        for frame in frames
    ]
    show_table(["file", "kB", "time", "source", "status", "detections"], rows)


def _show_csv(frames: Sequence[Mapping[str, Any]]) -> None:
    columns = ("file", "size_kb", "timestamp", "detections", "labels", "source", "status", "source_image_path",
               "frame_id")  # fmt: skip
    calculated = (
        {
            "size_kb": None if frame["size_bytes"] is None else frame["size_bytes"] / 1000,
            "labels": _labels(frame["detections"]),
            "detections": sum(frame["detections"].values()),
        }
        for frame in frames
    )
    rows = ({**frame, **more} for frame, more in zip(frames, calculated, strict=True))
    show_csv(columns, ([row[column] for column in columns] for row in rows))


def _labels(detections: Mapping[str, int]) -> str:
    return ", ".join(f"{label} {count}" for label, count in detections.items())
