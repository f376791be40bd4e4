"""`imgpipeline query`: SQL over all tables."""

from typing import Annotated

import typer

from imgpipeline.cli.options import Period, RowFormat, expand_options
from imgpipeline.cli.output import MOST_ROWS, show_table
from imgpipeline.settings import load_settings


@expand_options
def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="DuckDB SQL over frames, detections, weak_detections, label_counts, label_timestamps, label_totals, "
            "frame_stats, source_activity, frame_hours, frame_sizes, frame_dimensions, frame_brightness, "
            "frame_sharpness, frame_latency, tracks, track_points, unique_objects, unique_totals, frame_changes, "
            "events, zone_occupancy, line_crossings, dead_letters, notices, segments."
        ),
    ],
    period: Period,
    rows: RowFormat,
) -> None:
    """Query all tables with SQL. They show the lake at one moment: the stored tables plus newer segments of the ledger.

    With --day, or --from and --to, the tables contain only those days, and less is read. This matters most for
    segments, dead_letters and explain_label_counts, which read the ledger. Tracks and unique objects appear as stored.
    """
    from imgpipeline.lake.query.lake import open_arrow_lake  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.lake.query.lake_values import distinct_names  # noqa: PLC0415 - as above

    span = period.span()
    with open_arrow_lake(load_settings()).session(from_day=span.first, to_day=span.last) as session:
        answer = session.query(sql)
    rows.show(
        distinct_names(answer.columns),
        answer.rows,
        table=lambda: show_table(answer.columns, answer.rows, most=MOST_ROWS),
    )
