"""`imgpipeline query` and `imgpipeline summary`: numbers out of the lake."""

from typing import Annotated, Any

import typer

from imgpipeline.cli.dead_letters import parse_day
from imgpipeline.cli.output import JsonOption, note, show_json, show_table
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import load_settings

summary_app = typer.Typer(no_args_is_help=True, help="Summaries of what was seen.")

_MOST_ROWS = 1_000


@summary_app.callback()
def _group() -> None:
    """Summaries of what was seen."""


@summary_app.command("label-counts")
def label_counts(
    day: Annotated[str | None, typer.Option(help="Only this day (UTC), such as 2026-01-09.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how many of which label were seen in which hour (UTC)."""
    wanted = parse_day(day)
    only = f" WHERE hour >= TIMESTAMPTZ '{wanted} 00:00Z' AND hour < TIMESTAMPTZ '{wanted} 00:00Z' + INTERVAL 1 DAY"
    _run(f"SELECT * FROM label_counts{only if wanted else ''} ORDER BY hour, label", as_json=as_json)  # noqa: S608 - a day


def query(
    sql: Annotated[
        str, typer.Argument(help="DuckDB's SQL over frames, detections, label_counts, dead_letters, segments.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Ask the lake by SQL. All tables show one moment: Parquet, and the ledger's segments behind it."""
    _run(sql, as_json=as_json)


def _run(sql: str, *, as_json: bool) -> None:
    import duckdb  # noqa: PLC0415 - `--help` does not wait for it

    from imgpipeline.lake.session import open_lake  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    settings = load_settings()
    with open_lake(open_store(settings)) as lake:
        try:
            answer = lake.execute(sql)
            columns = [column[0] for column in answer.description or ()]
            rows: list[tuple[Any, ...]] = answer.fetchall()
        except duckdb.Error as error:
            raise ConfigurationError(
                f"DuckDB refuses the query: {error}",
                next_step='ask for the columns: imgpipeline query "DESCRIBE frames"',
            ) from None
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    show_table(columns, rows[:_MOST_ROWS])
    if len(rows) > _MOST_ROWS:
        note(f"These are {_MOST_ROWS:,} of {len(rows):,} rows; --json gives all.")
