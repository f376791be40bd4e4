"""`imgpipeline query`: SQL over all tables."""

from typing import Annotated

import typer

from imgpipeline.cli.answers import MOST_ROWS, note_hidden_rows
from imgpipeline.cli.day_options import FromOption, OnlyDayOption, ToOption
from imgpipeline.cli.output import (
    CsvOption,
    JsonOption,
    refuse_two_formats,
    show_csv,
    show_json,
    show_table,
)
from imgpipeline.lake.query.days import read_span
from imgpipeline.settings import load_settings


def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="DuckDB's SQL over frames, detections, weak_detections, label_counts, label_timestamps, label_totals, "
            "frame_stats, "
            "source_activity, frame_hours, frame_sizes, frame_dimensions, frame_brightness, frame_sharpness, "
            "frame_latency, tracks, track_points, unique_objects, unique_totals, frame_changes, events, "
            "zone_occupancy, line_crossings, dead_letters, notices, segments."
        ),
    ],
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Query all tables with SQL. They show one moment: the stored tables and the ledger's newer segments.

    With --day, or --from and --to, the tables hold only those days, and less is read. This matters most for segments,
    dead_letters and explain_label_counts, which read the ledger. Tracks and unique objects are shown as stored.
    """
    from imgpipeline.lake.query.arrow_lake import open_arrow_lake  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.lake.query.results import distinct_names  # noqa: PLC0415 - as above

    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    span = read_span(day, first, last)
    with open_arrow_lake(load_settings()).session(from_day=span.first, to_day=span.last) as session:
        answer = session.query(sql)
    if as_json:
        names = distinct_names(answer.columns)
        show_json([dict(zip(names, row, strict=True)) for row in answer.rows])
    elif as_csv:
        show_csv(distinct_names(answer.columns), answer.rows)
    else:
        show_table(answer.columns, answer.rows[:MOST_ROWS])
        note_hidden_rows(len(answer.rows))
