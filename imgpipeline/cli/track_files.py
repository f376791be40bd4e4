"""`imgpipeline tracks stats` and `tracks evaluate`: classic CSV files, and the quality of tracking."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.day_options import OneDayOption
from imgpipeline.cli.output import CsvOption, JsonOption, refuse_two_formats, show_csv, show_json, show_table
from imgpipeline.contracts.detection import Kind
from imgpipeline.lake.query.days import parse_day
from imgpipeline.settings import load_settings


class Form(StrEnum):
    """Which classic file."""

    STATS = "stats"
    TRACKS = "tracks"
    DETECTIONS = "detections"


def stats(
    source: Annotated[str, typer.Option("--source", help="The video or sequence.")],
    day: OneDayOption,
    form: Annotated[Form, typer.Option("--form", help="Statistics, or rows of tracks or detections.")] = Form.STATS,
    kind: Annotated[Kind, typer.Option("--kind", help="Cars or people, for tracks and detections.")] = Kind.CARS,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show how many different cars and people were seen up to each frame, or the rows behind it.

    With --csv these are the files of classic trackers: stats.csv, car_tracks.csv and car_detections.csv.
    """
    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    from imgpipeline.lake.query.arrow_lake import open_arrow_lake  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.tracking import classic_csv  # noqa: PLC0415 - as above

    wanted = parse_day(day)
    with open_arrow_lake(load_settings()) as lake, lake.session(day=wanted) as session:

        def ask(sql: str) -> classic_csv.Rows:
            return session.query(sql).rows

        if form is Form.STATS:
            columns, rows = classic_csv.statistics(ask, source, wanted)
        elif form is Form.TRACKS:
            columns, rows = classic_csv.tracks(ask, source, wanted, kind)
        else:
            columns, rows = classic_csv.detections(ask, source, wanted, kind)
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif as_csv:
        show_csv(columns, rows)
    else:
        show_table(columns, rows)


def evaluate(
    truth: Annotated[Path, typer.Option("--truth", help="Folder of one MOT Challenge sequence: gt.txt and det.txt.")],
    as_json: JsonOption = False,
) -> None:
    """Follow the detections of a sequence with the present settings and compare the tracks with the truth.

    The first row is plain ByteTrack, the second one has tracks stitched to objects.
    """
    from imgpipeline.tracking.evaluating import evaluate as compare  # noqa: PLC0415 - loads numpy
    from imgpipeline.tracking.evaluating import read_sequence  # noqa: PLC0415 - as above
    from imgpipeline.tracking.values import TrackingParameters  # noqa: PLC0415 - as above

    settings = load_settings()
    parameters = TrackingParameters.of(settings)
    found = compare(read_sequence(truth), parameters, least_s=settings.unique_min_s)
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
        show_table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows])
