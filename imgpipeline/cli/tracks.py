"""`imgpipeline tracks`: show, export and evaluate objects followed across frames."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.options import (
    NO_TRACKS,
    OneDayOption,
    OutputFileOption,
    RowFormat,
    Selection,
    command,
    open_site,
)
from imgpipeline.cli.output import note, write_file
from imgpipeline.cli.summary import note_builds, note_minimum_time, show_answer
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import parse_day
from imgpipeline.lake.query.images import draw_track
from imgpipeline.lake.query.lake import open_arrow_lake
from imgpipeline.settings import load_settings
from imgpipeline.tracking.classic_statistics import statistics
from imgpipeline.tracking.evaluating import compare_stored, read_sequence, read_truth
from imgpipeline.tracking.evaluating import evaluate as compare
from imgpipeline.tracking.values import TrackingParameters
from imgpipeline.vision.annotate import encode_jpeg

app = typer.Typer()
_TRACK_COLUMNS = ("track_id", "label", "first_seen", "stay_s", "points", "ended_by", "object_id")


@command(app, "list")
def list_tracks(wanted: Selection, rows: RowFormat) -> None:
    """List tracks by time. Tracks of one object have the same object_id.

    ended_by says why a track ends; slice: its object was still there when the slice or the frames ended.
    """
    show_answer(lambda lake: lake.tracks, wanted, rows, _TRACK_COLUMNS, empty=NO_TRACKS)


@command(app, "show")
def show(
    track_id: Annotated[str, typer.Argument(help="The track, such as gate/person/20260109T1150/3.")],
    output: OutputFileOption,
) -> None:
    """Draw a track on its largest and sharpest image, as a JPEG file."""
    settings, store = open_site()
    write_file(output, encode_jpeg(draw_track(store, settings, track_id)))
    note(f"Drew {track_id} on {output}.")


@command(app, "stats")
def stats(
    source: Annotated[str, typer.Option("--source", help="The video or sequence.")], day: OneDayOption, rows: RowFormat
) -> None:
    """Show how many different cars and people were seen up to each frame; with --csv, as stats.csv of older trackers.

    `imgpipeline publish tracks --csv-file` and `publish detections --csv-file` write the rows that it counts.
    """
    wanted = parse_day(day)
    with open_arrow_lake(load_settings()) as lake, lake.session(day=wanted) as session:
        found = statistics(session, source, wanted)
        rows.show([dict(zip(found.columns, row, strict=True)) for row in found.rows], fields=found.columns)
        note_builds(session) if found.rows else note(NO_TRACKS)


@command(app, "evaluate")
def evaluate(
    truth: Annotated[
        Path, typer.Option("--truth", help="Folder of one MOT Challenge sequence. With --source: or its gt.txt.")
    ],
    source: Annotated[str | None, typer.Option("--source", help="Compare the stored tracks of this source.")] = None,
    day: Annotated[str | None, typer.Option("--day", help="The UTC day of these tracks.")] = None,
    *,
    rows: RowFormat,
) -> None:
    """Compare tracks with the ground truth in MOT Challenge format.

    The first row shows the tracks, the second one the objects: the same after stitching. Without --source, the
    detections in det.txt are tracked with the current settings. With it, frames are matched by their numbers.
    unique_error is empty if no true object is visible for long enough to count.
    """
    settings = load_settings()
    if (source is None) != (day is None):
        raise UsageError("--source and --day belong together.", next_step="give both, or none to track det.txt")
    if source and day:
        wanted, true = parse_day(day), read_truth(truth)
        with open_arrow_lake(settings) as lake, lake.session(day=wanted) as session:
            build, found, unmatched = compare_stored(session, source, wanted, true)
            note_builds(session)
        for said in unmatched:
            note(said)
        tracker, rate = build.settings["tracker"], build.frame_rates.get(source, 0.0)
    else:
        sequence = read_sequence(truth)
        found = compare(sequence, TrackingParameters.of(settings), least_s=settings.unique_min_s)
        note_minimum_time({settings.unique_min_s})
        tracker, rate = settings.tracker, sequence.frame_rate
    note(f"Tracker: {tracker} (IMGPIPELINE_TRACKER); frames per second: {rate:g}.")
    rows.show([{"tracks": name, **asdict(each), "unique_error": each.unique_error} for name, each in found.items()])
