"""`imgpipeline tracks`: build, show, export and evaluate objects followed across frames."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.options import (
    JsonOption,
    OneDayOption,
    Period,
    RowFormat,
    Selection,
    days_with_frames,
    expand_options,
    show_answer,
)
from imgpipeline.cli.output import note, show_json, show_records
from imgpipeline.contracts.detection import Kind
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.lake.query.days import parse_day
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.tracking.day_tracks import TracksBuild

app = typer.Typer(help="Follow objects across frames, and show how many different ones there were.")
_TRACK_COLUMNS = ("track_id", "label", "first_seen", "stay_s", "points", "ended_by", "unique_id")
_UNIQUE_COLUMNS = ("hour", "source", "label", "objects", "not_stitched", "tracks", "mean_stay_s", "longest_stay_s",
                   "frame_rate", "observed_s")  # fmt: skip
_NO_TRACKS = "No tracks. They are built per day: imgpipeline tracks build --day 2026-01-09"


class Form(StrEnum):
    """The files of classic trackers."""

    STATS = "stats"
    TRACKS = "tracks"
    DETECTIONS = "detections"


@app.command("build")
@expand_options
def build(
    period: Period,
    force: Annotated[bool, typer.Option("--force", help="Follow all slices again, even if nothing changed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Follow the objects of days that have tables. Only slices whose detections changed are processed again.

    In Dagster, the asset `tracks` does this for every day with new data; for a long range, launch a backfill of it.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.tracking.day_tracks import build_tracks  # noqa: PLC0415 - loads DuckDB

    span, settings = period.span(), load_settings()
    store = open_store(settings)
    done, failed = [], {}
    for day in days_with_frames(store, span):
        try:
            done.append(build_tracks(store, day, settings=settings, force=force, now=utc_now()))
        except PermanentError as error:
            if isinstance(error, ConfigurationError) or span.first == span.last:
                raise
            note(f"{day}: {error}")
            failed[day] = error
    rows = [_build_row(each) for each in done]
    if as_json:
        show_json(rows)
    elif rows:
        show_records(rows)
    if failed:
        raise PermanentError(f"{counted(len(failed), 'day')} could not be built: {', '.join(map(str, failed))}.")


def _build_row(done: "TracksBuild") -> dict[str, Any]:
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
@expand_options
def list_tracks(wanted: Selection, rows: RowFormat) -> None:
    """List tracks by time. Tracks of one object have the same unique_id."""
    show_answer(lambda lake: lake.tracks, wanted, rows, _TRACK_COLUMNS, empty=_NO_TRACKS)


@app.command("unique")
@expand_options
def unique(wanted: Selection, rows: RowFormat) -> None:
    """Show how many different objects each source saw per UTC hour, and how long they stayed.

    An object that is seen in two hours counts in both; the table unique_totals has the objects of a day.
    """
    show_answer(lambda lake: lake.unique_objects, wanted, rows, _UNIQUE_COLUMNS, empty=_NO_TRACKS)


@app.command("show")
def show(
    track_id: Annotated[str, typer.Argument(help="The track, such as gate/person/20260109T1150/3.")],
    out: Annotated[Path, typer.Option("--out", help="The JPEG file to write.")],
) -> None:
    """Draw a track on its largest and sharpest image."""
    from imgpipeline.lake.query.images import draw_track  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore.files import open_output, write  # noqa: PLC0415 - as above
    from imgpipeline.vision.annotate import encode_jpeg  # noqa: PLC0415 - loads OpenCV

    settings = load_settings()
    drawn = draw_track(open_store(settings), settings, track_id)
    with open_output(str(out), option="--out") as stream:
        write(stream, encode_jpeg(drawn))
    note(f"Drew {track_id} on {out}.")


@app.command("stats")
@expand_options
def stats(
    source: Annotated[str, typer.Option("--source", help="The video or sequence.")],
    day: OneDayOption,
    form: Annotated[Form, typer.Option("--form", help="Statistics, or rows of tracks or detections.")] = Form.STATS,
    kind: Annotated[Kind, typer.Option("--kind", help="Cars or people, for tracks and detections.")] = Kind.CARS,
    *,
    rows: RowFormat,
) -> None:
    """Show how many different cars and people were seen up to each frame, or the rows that these numbers count.

    With --csv, these are the files of classic trackers: stats.csv, car_tracks.csv and car_detections.csv.
    """
    from imgpipeline.lake.query.lake import open_arrow_lake  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.tracking import classic_csv  # noqa: PLC0415 - as above

    wanted = parse_day(day)
    with open_arrow_lake(load_settings()) as lake, lake.session(day=wanted) as session:

        def ask(sql: str) -> classic_csv.Rows:
            return session.query(sql).rows

        if form is Form.STATS:
            columns, found = classic_csv.statistics(ask, source, wanted)
        elif form is Form.TRACKS:
            columns, found = classic_csv.tracks(ask, source, wanted, kind)
        else:
            columns, found = classic_csv.detections(ask, source, wanted, kind)
    rows.show(columns, found)


@app.command("evaluate")
def evaluate(
    truth: Annotated[Path, typer.Option("--truth", help="Folder of one MOT Challenge sequence: gt.txt and det.txt.")],
    as_json: JsonOption = False,
) -> None:
    """Track the detections of a sequence with the current settings, and compare the tracks with the ground truth.

    The first row shows plain ByteTrack, the second one the tracks stitched into objects.
    """
    from imgpipeline.tracking.evaluating import evaluate as compare  # noqa: PLC0415 - loads numpy
    from imgpipeline.tracking.evaluating import read_sequence  # noqa: PLC0415 - as above
    from imgpipeline.tracking.values import TrackingParameters  # noqa: PLC0415 - as above

    settings = load_settings()
    found = compare(read_sequence(truth), TrackingParameters.of(settings), least_s=settings.unique_min_s)
    rows = [
        {
            "tracks": name, "hota": round(each.hota, 3), "idf1": round(each.idf1, 3), "mota": round(each.mota, 3),
            "id_switches": each.id_switches, "objects": each.objects, "true_objects": each.true_objects,
            "unique_error": round(each.unique_error, 3),
        }
        for name, each in found.items()
    ]  # fmt: skip
    if as_json:
        show_json(rows)
    else:
        show_records(rows)
