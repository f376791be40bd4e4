"""A manifest survives the footer of its table, and names a hash of the rows for later builds, checks and Dagster.

The hash is DuckDB's `hash`, which a later release of DuckDB may change. The rows of every stored day would then look
wrong, so the values are fixed here. Do not upgrade to a release that fails these tests before `hash_rows` computes the
old values with it.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.keys import ChainId, day_table_key
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.storage.engine import open_engine
from imgpipeline.lake.storage.manifest import (
    Manifest,
    covered_ends,
    hash_rows,
    join_ends,
    parse_footer,
    read_manifest,
    read_stored,
    write_parquet,
    write_rows,
)
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.contracts.strategies import chains, numbers, texts, times
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON

manifests = st.builds(
    Manifest,
    table=texts,
    day=st.dates(),
    made_by=texts,
    ends=st.dictionaries(chains, numbers, max_size=4),
    rows=numbers,
    built_at=times,
    duplicates=numbers,
)
all_ends = st.dictionaries(st.sampled_from([ChainId("t", "i", n) for n in range(3)]), st.integers(0, 9))


@given(manifests)
def test_it_round_trips_through_json(manifest):
    with open_engine(memory=None) as engine:
        data = write_rows(engine, "t", "SELECT 1", manifest.to_json(), object_bytes=10**9)
    assert parse_footer(data, "t") == manifest


def put_manifest(store: ObjectStore, manifest: Manifest) -> int:
    with open_engine(memory=None) as engine:
        data, _ = write_parquet(engine, "SELECT 1 AS a", manifest, object_bytes=10**9)
    store.put(day_table_key(manifest.table, manifest.day), data)
    return len(data)


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_it_is_read_from_the_store_with_version_and_size_however_many_chains_it_names(memory, count):
    ends = {ChainId("frames", f"it's {'x' * 40}".replace("'", "-").replace(" ", "_"), n): n for n in range(count)}
    manifest = Manifest(table="frames", day=DAY, made_by="code", ends=ends, rows=1, built_at=NOON)
    size_bytes = put_manifest(memory, manifest)
    assert (size_bytes > 128 * 1024) == (count == 5000)
    stored = read_stored(memory, day_table_key("frames", DAY))
    info = memory.head(day_table_key("frames", DAY))
    assert stored is not None
    assert info is not None
    assert stored.manifest.content, "the hash of the rows is added where they are written"
    assert replace(stored.manifest, content="") == manifest
    assert (stored.e_tag, stored.size_bytes) == (info.e_tag, size_bytes)


def test_a_foreign_parquet_file_is_reported_with_what_to_do(memory):
    with open_engine(memory=None) as engine:
        path = engine.folder / "other.parquet"
        engine.run(f"COPY (SELECT 1) TO '{path}'")
        memory.put(day_table_key("frames", DAY), path.read_bytes())
    with pytest.raises(PermanentError, match="manifest") as error:
        read_manifest(memory, "frames", DAY)
    assert day_table_key("frames", DAY) in str(error.value)
    assert error.value.next_step
    assert read_manifest(memory, "detections", DAY) is None


@given(all_ends, all_ends)
def test_joined_ends_are_maxima_and_covered_ends_minima(one, other):
    joined = join_ends(one, other)
    made = [Manifest(table="frames", day=DAY, made_by="", ends=ends, built_at=NOON) for ends in (one, other)]
    covered = covered_ends(*made)
    for chain in {*one, *other}:
        assert joined[chain] == max(one.get(chain, 0), other.get(chain, 0))
        assert covered.get(chain, 0) == min(one.get(chain, 0), other.get(chain, 0))
    assert covered_ends(made[0], None) == covered_ends() == {}
    assert CHAIN not in joined


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
def test_the_hash_of_stored_rows_does_not_change(kind):
    value, expected = STORED[kind]
    assert hash_of(kind, value, "NULL") == expected


def test_every_type_of_a_stored_column_is_among_them():
    tables = (*DAY_TABLES, *(summary.table for summary in SUMMARIES.values()))
    assert {column.duckdb_type for table in tables for column in table.columns} == STORED.keys()


def test_the_hash_depends_on_rows_and_not_on_their_order():
    hashes = [hash_of("INTEGER", *values) for values in (("1", "2"), ("2", "1"), ("1", "3"), ("1", "2", "2"))]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
