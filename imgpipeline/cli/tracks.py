"""`imgpipeline tracks`: objects followed across frames, and how many different ones there were."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.answers import LabelOption, SourceOption, show_answer
from imgpipeline.cli.day_options import FromOption, OnlyDayOption, ToOption, days_with_frames
from imgpipeline.cli.output import CsvOption, JsonOption, note, show_json, show_table
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.lake.query.days import read_span
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.tracking.day_tracks import TracksBuild

app = typer.Typer(help="Objects followed across frames, and how many different ones there were.")
_TRACK_COLUMNS = ("track_id", "label", "first_seen", "stay_s", "points", "ended_by", "unique_id")
_UNIQUE_COLUMNS = ("hour", "source", "label", "objects", "not_stitched", "tracks", "mean_stay_s", "longest_stay_s",
                   "frame_rate", "observed_s")  # fmt: skip
_NO_TRACKS = "No tracks. They are built per day: imgpipeline tracks build --day 2026-01-09"


@app.callback()
def _group() -> None:
    """Objects followed across frames, and how many different ones there were."""


@app.command("build")
def build(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    force: Annotated[bool, typer.Option("--force", help="Follow all slices again, even if nothing changed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Follow the objects of days that have tables; only slices whose detections changed are followed again.

    In Dagster the asset `tracks` does this for every day that has news. Launch a backfill of it for a long range.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.tracking.day_tracks import build_tracks  # noqa: PLC0415 - loads DuckDB

    span = read_span(day, first, last)
    settings = load_settings()
    store = open_store(settings)
    done, failed = [], {}
    for each in days_with_frames(store, span):
        try:
            done.append(build_tracks(store, each, settings=settings, force=force, now=utc_now()))
        except PermanentError as error:
            if isinstance(error, ConfigurationError) or span.first == span.last:
                raise
            note(f"{each}: {error}")
            failed[each] = error
    rows = [_row(each) for each in done]
    if as_json:
        show_json(rows)
    elif rows:
        show_table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows])
    if failed:
        raise PermanentError(f"{counted(len(failed), 'day')} could not be built: {', '.join(map(str, failed))}.")


def _row(done: "TracksBuild") -> dict[str, Any]:
    return {
        "day": done.day,
        "skipped": done.skipped,
        "tracks": done.tracks,
        "slices_followed": done.slices_followed,
        "slices_kept": done.slices_kept,
        "size_bytes": done.size_bytes,
        "duration_s": round(done.duration_s, 2),
    }


@app.command("list")
def list_tracks(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: SourceOption = None,
    label: LabelOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List tracks by time. Tracks of one object have the same unique_id."""
    read_span(day, first, last)
    show_answer(
        lambda lake: lake.tracks(day, from_day=first, to_day=last, source=source, label=label),
        _TRACK_COLUMNS,
        empty=_NO_TRACKS,
        as_json=as_json,
        as_csv=as_csv,
    )


@app.command("unique")
def unique(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    source: SourceOption = None,
    label: LabelOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show how many different objects each source saw by hour (UTC), and for how long they stayed.

    An object that is seen in two hours counts in both; the table unique_totals has the objects of a day.
    """
    read_span(day, first, last)
    show_answer(
        lambda lake: lake.unique_objects(day, from_day=first, to_day=last, source=source, label=label),
        _UNIQUE_COLUMNS,
        empty=_NO_TRACKS,
        as_json=as_json,
        as_csv=as_csv,
    )


@app.command("show")
def show(
    track_id: Annotated[str, typer.Argument(help="The track, such as gate/person/20260109T1150/3.")],
    out: Annotated[Path, typer.Option("--out", help="The JPEG file to write.")],
) -> None:
    """Draw a track on its best image, the largest and sharpest one."""
    from imgpipeline.lake.query.images import draw_track  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.vision.annotate import encode_jpeg  # noqa: PLC0415 - loads OpenCV

    settings = load_settings()
    drawn = draw_track(open_store(settings), settings, track_id)
    out.write_bytes(encode_jpeg(drawn))
    note(f"Drew {track_id} on {out}.")
