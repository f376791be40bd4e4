"""`imgpipeline summary`: what was seen, summed up by label, hour, size and source."""

import typer

from imgpipeline.cli.output import CsvOption, JsonOption, note, refuse_two_formats, show_csv, show_json, show_table
from imgpipeline.cli.spans import FromOption, OnlyDayOption, ToOption, days_of, read_span
from imgpipeline.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="What was seen, summed up by label, hour, size and source.")
_MOST_ROWS = 1_000


@app.callback()
def _group() -> None:
    """What was seen, summed up by label, hour, size and source."""


@app.command("label-counts")
def label_counts(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show how many of which label were seen in which hour (UTC)."""
    from imgpipeline.lake.session import open_lake  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    span = read_span(day, first, last)
    store = open_store(load_settings())
    with open_lake(store, days=None if span.is_all else days_of(store, span)) as lake:
        answer = lake.query("SELECT * FROM label_counts ORDER BY hour, label")
    if as_json:
        show_json([dict(zip(answer.columns, row, strict=True)) for row in answer.rows])
    elif as_csv:
        show_csv(answer.columns, answer.rows)
    else:
        show_table(answer.columns, answer.rows[:_MOST_ROWS])
        if len(answer.rows) > _MOST_ROWS:
            note(f"These are {_MOST_ROWS:,} of {len(answer.rows):,} rows; --json and --csv give all.")
