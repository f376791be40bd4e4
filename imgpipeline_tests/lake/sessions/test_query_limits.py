"""What SQL of a user may do in a session: read the lake, and nothing else."""

import pandas as pd
import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore import ObjectStore

REFUSED = {
    "a file": "SELECT * FROM read_text('/etc/hostname')",
    "a folder": "SELECT * FROM glob('/etc/*')",
    "the internet": "SELECT * FROM read_parquet('https://127.0.0.1:1/x.parquet')",
    "writing": "COPY (SELECT 1) TO '/tmp/written.csv'",
    "explained writing": "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/written.csv'",
    "attaching": "ATTACH '/tmp/other.db'",
    "a setting": "SET enable_external_access = true",
    "an extension": "INSTALL httpfs",
    "dropping": "DROP VIEW frames",
    "two at once": "SELECT 1; SELECT 2",
    "nothing": "",
    "a Python variable": "SELECT * FROM secret_rows",
    "no SQL": "SELEC 1",
    "no such column": "SELECT colour FROM frames",
}


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED.keys())
def test_a_query_can_neither_write_nor_read_what_is_not_the_lake_s(memory: ObjectStore, lake, sql: str):
    secret_rows = pd.DataFrame({"secret": [1]})
    with lake(memory) as session:
        with pytest.raises(ConfigurationError) as refusal:
            session.query(sql)
        assert refusal.value.next_step
        assert session.query("SELECT 1").rows == [(1,)]
    assert len(secret_rows) == 1


@pytest.mark.parametrize(
    "sql", ["DESCRIBE frames", "SUMMARIZE frames", "EXPLAIN SELECT 1", "FROM frames", "WITH a AS (FROM frames) FROM a",
            "VALUES (1)", "PIVOT detections ON label IN ('car') USING count(*)"],
)  # fmt: skip
def test_whatever_only_reads_is_answered(memory: ObjectStore, lake, sql: str):
    with lake(memory) as session:
        assert session.query(sql).columns
