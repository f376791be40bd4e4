"""`imgpipeline export`: the lake's tables as a file for other tools, and frames for training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.day_options import FromOption, OnlyDayOption, ToOption
from imgpipeline.cli.export_frames import coco, yolo
from imgpipeline.cli.output import JsonOption, note, progress_bar, show_json, show_table
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.query.days import Span, days_of, read_span
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from datetime import date

    from imgpipeline.objectstore import ObjectStore

app = typer.Typer(help="Export all tables as a file, or frames with their boxes for training.")
app.command("coco")(coco)
app.command("yolo")(yolo)


@app.callback()
def _group() -> None:
    """Export all tables as a file, or frames with their boxes for training."""


@app.command("duckdb")
def duckdb_file(
    file: Annotated[Path, typer.Argument(help="The file to write, such as lake.duckdb.")],
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write all tables of `imgpipeline query` into one DuckDB file.

    The tables show one moment, including frames whose day is not built yet. Reading the file needs neither this project
    nor the object store. The file is never incomplete; an existing file is replaced only with --force.
    """
    from imgpipeline.lake.query.export import export_duckdb  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    span, settings = read_span(day, first, last), load_settings()
    store = open_store(settings)
    days = None if span.is_all else _days(store, span)
    with progress_bar(file.name, unit="queries") as progress:
        done = export_duckdb(store, settings, file, now=utc_now(), days=days, force=force, progress=progress)
    if as_json:
        ends = {str(chain): end for chain, end in sorted(done.ends.items())}
        show_json({"file": str(done.path), "size_bytes": done.size_bytes, "days": done.days, "rows": done.rows,
                   "ends": ends})  # fmt: skip
    else:
        show_table(["table", "rows"], done.rows.items())
        note(f"{file}: {counted(len(done.days), 'day')}, {done.size_bytes / 1e6:,.1f} MB.")


def _days(store: "ObjectStore", span: Span) -> "list[date]":
    from imgpipeline.lake.sessions.nearest_days import name_nearest_days  # noqa: PLC0415 - loads the package `lake`
    from imgpipeline.ledger import known_days  # noqa: PLC0415 - loads obstore

    days = days_of(store, span)
    near = span.last or span.first
    if not days and near is not None:
        named = name_nearest_days(known_days(store), near)
        raise ConfigurationError(
            f"There is nothing of {span} to export.", next_step=f"name days that the ledger knows: {named}"
        )
    return days
