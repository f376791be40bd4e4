"""Shows a table of the lake: all of it as JSON or CSV, or the first rows as a table."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.output import note, refuse_two_formats, show_csv, show_json, show_table
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    import pyarrow as pa

    from imgpipeline.lake.query.lake import Lake

MOST_ROWS = 1_000
"""A table on the terminal has at most this many rows."""
SourceOption = Annotated[str | None, typer.Option("--source", help="Only this source.")]
LabelOption = Annotated[str | None, typer.Option("--label", help="Only this label.")]


def show_answer(
    question: "Callable[[Lake[pa.Table]], pa.Table]",
    columns: Sequence[str] | None = None,
    *,
    empty: str,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Opens the lake, asks it a question and shows the answer.

    Args:
        question: Returns the answer.
        columns: The columns of the table on the terminal; None: all except `day`. JSON and CSV have all columns.
        empty: What to say if the answer has no rows.
        as_json: Write JSON.
        as_csv: Write CSV.
    """
    refuse_two_formats(as_json=as_json, as_csv=as_csv)
    from imgpipeline.lake.query.arrow_lake import open_arrow_lake  # noqa: PLC0415 - loads DuckDB

    with open_arrow_lake(load_settings()) as lake:
        found = question(lake)
    rows = found.to_pylist()
    if as_json:
        show_json(rows)
    elif as_csv:
        show_csv(found.column_names, [list(row.values()) for row in rows])
    elif rows:
        names = columns or [name for name in found.column_names if name != "day"]
        show_table(
            [name.replace("_", " ") for name in names], [[row[name] for name in names] for row in rows[:MOST_ROWS]]
        )
        note_hidden_rows(len(rows))
    else:
        note(empty)


def note_hidden_rows(in_all: int) -> None:
    """Says how many rows a table on the terminal leaves out, if it does."""
    if in_all > MOST_ROWS:
        note(f"Showing {MOST_ROWS:,} of {in_all:,} rows; --json and --csv show all.")
