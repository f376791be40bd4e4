"""A table's footer holds a hash of its rows, which later builds, checks and Dagster compare.

The hash is DuckDB's `hash`, which a later release of DuckDB may change. The rows of every stored day would then look
wrong, so the values are fixed here. Do not upgrade to a release that fails these tests before `hash_rows` computes the
old values with it.
"""

import pytest

from imgpipeline.lake.build.summaries import SUMMARIES
from imgpipeline.lake.schema import DAY_TABLES
from imgpipeline.lake.storage.engine import open_engine
from imgpipeline.lake.storage.parquet_objects import hash_rows

MODEL = (
    'STRUCT(model VARCHAR, sha256 VARCHAR, "precision" VARCHAR, confidence_threshold DOUBLE, nms_threshold DOUBLE)[]'
)
STORED: dict[str, tuple[str, str]] = {
    "BIGINT": ("-7000000000", "fe144dd7d99c135e"),
    "DATE": ("'2026-01-09'", "6ffa13f55808e0ba"),
    "DOUBLE": ("0.1", "5953de4871f18547"),
    "DOUBLE[][][]": ("[[[0.5, 1.25]], NULL]", "a229f0c6b16e2b9c"),
    "INTEGER": ("42", "48f1c8422535215e"),
    "MAP(BIGINT, BIGINT)": ("MAP {1: 2, 3: 4}", "fedd8532acd7e032"),
    "MAP(DOUBLE, BIGINT)": ("MAP {0.5: 2}", "33f3e629d8bb51ee"),
    "MAP(INTEGER, BIGINT)": ("MAP {16: 2}", "9027c29c6fdfb893"),
    "MAP(VARCHAR, BIGINT)": ("MAP {'yard': 2}", "9c95ac3001c529bb"),
    "MAP(VARCHAR, DOUBLE)": ("MAP {'yard': 2.5}", "ae2b42f78d5dd11c"),
    MODEL: ("[{'model': 'demo', 'sha256': 'ab', 'precision': NULL, 'confidence_threshold': 0.5, 'nms_threshold': 0.4}]",
            "86cf0239df68f4b2"),
    "TIMESTAMPTZ": ("'2026-01-09 12:00:00.000001+00'", "b1a11ba413970b62"),
    "TIMESTAMPTZ[]": ("['2026-01-09 12:00:00+00', NULL]", "43a13cf845dc1d72"),
    "VARCHAR": ("'naïve 😀'", "74ff70e8cd7f8b2f"),
    "VARCHAR[]": ("['a', NULL, '']", "72e46fa8a290b1cd"),
}  # fmt: skip
"""By type of a column: a value, and the hash of one row with this value and one with NULL."""


def hash_of(kind: str, *values: str) -> str:
    rows = ", ".join(f"({value})" for value in values)
    with open_engine(memory=None) as engine:
        return hash_rows(engine, f"SELECT x::{kind} AS x FROM (VALUES {rows}) AS given(x)")  # noqa: S608 - own values


@pytest.mark.parametrize("kind", STORED, ids=[kind.partition("(model")[0] for kind in STORED])
def test_the_hash_of_stored_rows_stays_what_it_was(kind: str) -> None:
    value, expected = STORED[kind]
    assert hash_of(kind, value, "NULL") == expected


def test_every_type_of_a_stored_column_is_among_them() -> None:
    tables = (*DAY_TABLES, *(summary.table for summary in SUMMARIES.values()))
    assert {column.duckdb_type for table in tables for column in table.columns} == STORED.keys()


def test_rows_in_another_order_have_the_same_hash_and_other_rows_another() -> None:
    hashes = [hash_of("INTEGER", *values) for values in (("1", "2"), ("2", "1"), ("1", "3"), ("1", "2", "2"))]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
