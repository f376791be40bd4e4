"""Matches the boxes of two models over a whole day, in SQL where no choice is needed.

`overlapping.sql` finds the pairs that overlap, `vision.matching` chooses among them.
"""

import contextlib
from collections.abc import Iterator
from importlib import resources

from imgpipeline.lake.storage.engine import Engine, engine_errors
from imgpipeline.vision.agreement import Overlap, choose_pairs

ROWS_AT_ONCE = 10_000


def read_sql(name: str) -> str:
    """Returns a query of this package, without a final semicolon."""
    return resources.files("imgpipeline.redetect").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8").strip()


def match_found(engine: Engine) -> None:
    """Creates the table `matched` out of `found_a` and `found_b`.

    Most boxes overlap one other box at most: those pairs need no choice and stay in DuckDB.
    """
    engine.run(f"CREATE OR REPLACE TABLE overlapping AS {read_sql('overlapping')}")
    engine.run(
        "CREATE OR REPLACE TABLE matched AS "
        "SELECT frame_id, label, a, b, iou FROM overlapping WHERE of_a = 1 AND of_b = 1"
    )
    rows: list[Overlap] = []
    for pair in choose_pairs(_contested(engine)):
        rows.append(pair)
        if len(rows) == ROWS_AT_ONCE:
            _insert(engine, rows)
            rows.clear()
    _insert(engine, rows)
    engine.run("DROP TABLE overlapping")


def _contested(engine: Engine) -> Iterator[Overlap]:
    """Yields the overlaps of boxes that have several, without holding all of them."""
    with engine_errors(), contextlib.closing(engine.connection.cursor()) as cursor:
        cursor.execute(
            "SELECT frame_id, label, a, b, iou FROM overlapping WHERE of_a > 1 OR of_b > 1 "
            "ORDER BY frame_id, iou DESC, a, b"
        )
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield from rows


def _insert(engine: Engine, rows: list[Overlap]) -> None:
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        engine.run("INSERT INTO matched SELECT unnest(?), unnest(?), unnest(?), unnest(?), unnest(?)", columns)
