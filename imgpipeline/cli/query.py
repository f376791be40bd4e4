"""`imgpipeline query`: SQL over the lake."""

from collections.abc import Sequence
from itertools import count
from typing import Annotated

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
from imgpipeline.cli.spans import FromOption, OnlyDayOption, ToOption, days_of, read_span
from imgpipeline.settings import load_settings

_MOST_ROWS = 1_000


def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="DuckDB's SQL over frames, detections, label_counts, label_timestamps, label_totals, frame_stats, "
            "source_activity, frame_hours, frame_sizes, frame_dimensions, frame_brightness, frame_sharpness, "
            "frame_latency, dead_letters, segments."
        ),
    ],
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Ask the lake by SQL. All tables show one moment: Parquet, and the ledger's segments behind it.

    With --day, or --from and --to, the tables hold those days only: less is fetched and read, which matters most
    for segments, dead_letters and explain_label_counts, since these read the ledger.
    """
    from imgpipeline.lake.session import open_lake  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    span = read_span(day, first, last)
    settings = load_settings()
    store = open_store(settings)
    with open_lake(store, settings=settings, days=None if span.is_all else days_of(store, span)) as lake:
        answer = lake.query(sql)
    if as_json:
        names = _distinct(answer.columns)
        show_json([dict(zip(names, row, strict=True)) for row in answer.rows])
    elif as_csv:
        show_csv(_distinct(answer.columns), answer.rows)
    else:
        show_table(answer.columns, answer.rows[:_MOST_ROWS])
        if len(answer.rows) > _MOST_ROWS:
            note(f"These are {_MOST_ROWS:,} of {len(answer.rows):,} rows; --json and --csv give all.")


def _distinct(columns: Sequence[str]) -> list[str]:
    """Returns column names of which none is lost as a key: `n, n` becomes `n, n_1`."""
    names: list[str] = []
    for column in columns:
        candidates = (column if number == 0 else f"{column}_{number}" for number in count())
        names.append(next(name for name in candidates if name not in names))
    return names
