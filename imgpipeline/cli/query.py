"""`imgpipeline query` and `imgpipeline summary`: numbers out of the lake."""

from collections.abc import Sequence
from datetime import date
from itertools import count
from typing import Annotated

import typer

from imgpipeline.cli.dead_letters import parse_day
from imgpipeline.cli.output import JsonOption, note, show_json, show_table
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
    only = f" WHERE day = DATE '{wanted}'" if wanted else ""
    sql = f"SELECT * FROM label_counts{only} ORDER BY hour, label"  # noqa: S608 - a day that was parsed
    _run(sql, as_json=as_json, days=[wanted] if wanted else None)


def query(
    sql: Annotated[
        str, typer.Argument(help="DuckDB's SQL over frames, detections, label_counts, dead_letters, segments.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Ask the lake by SQL. All tables show one moment: Parquet, and the ledger's segments behind it."""
    _run(sql, as_json=as_json)


def _run(sql: str, *, as_json: bool, days: Sequence[date] | None = None) -> None:
    from imgpipeline.lake.session import open_lake  # noqa: PLC0415 - loads DuckDB and pyarrow
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    with open_lake(open_store(load_settings()), days=days) as lake:
        answer = lake.query(sql)
    if as_json:
        names = _distinct(answer.columns)
        show_json([dict(zip(names, row, strict=True)) for row in answer.rows])
        return
    show_table(answer.columns, answer.rows[:_MOST_ROWS])
    if len(answer.rows) > _MOST_ROWS:
        note(f"These are {_MOST_ROWS:,} of {len(answer.rows):,} rows; --json gives all.")


def _distinct(columns: Sequence[str]) -> list[str]:
    """Returns column names of which none is lost as a key: `n, n` becomes `n, n_1`."""
    names: list[str] = []
    for column in columns:
        candidates = (column if number == 0 else f"{column}_{number}" for number in count())
        names.append(next(name for name in candidates if name not in names))
    return names
