"""The code of docs/sinks.md for other engines, as the page shows it, counts what the summaries count."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.tables import LABEL_COUNTS
from imgpipeline.lake.storage.engine import BuildLimits
from imgpipeline.objectstore import ObjectStore
from imgpipeline.sinks.protocol import as_stored
from imgpipeline_tests.ledger.samples import NOON
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day, wanted_rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sinks.md"
DAYS = (day_number(0), day_number(1))
SPARK_OPTIONS = (
    "--master local[1] --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=1 "
    "--driver-java-options '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC' pyspark-shell"
)
"""Half the time of the defaults for so few rows."""
ROWS = "import json\nprint(json.dumps([[str(day), label, count] for day, label, count in counts.collect()]))\n"


def code_for(engine: str, **replaced: str) -> str:
    """Return the first block of code below an engine's name, with other texts in place of the page's examples."""
    found = re.search(rf"^{engine}\b[^\n]*:\n\n```(?:sql|python)\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    code = found[1]
    for old, new in replaced.items():
        assert old in code
        code = code.replace(old, new)
    return code


def fill(store: ObjectStore) -> None:
    put_day(store, DAYS[0], frames_of(DAYS[0], 200, labels=["car", "person", "car"]))
    put_day(store, DAYS[1], frames_of(DAYS[1], 11, labels=["car", "dog"]))


def counted(rows: Iterable[Iterable[Any]]) -> dict[tuple[str, str], int]:
    return {(str(day), label): int(count) for day, label, count in rows}


def summed(store: ObjectStore) -> dict[tuple[str, str], int]:
    """Return the detections of each day and label as the summaries count them."""
    found: Counter[tuple[str, str]] = Counter()
    for day in DAYS:
        for row in wanted_rows(store, as_stored(LABEL_COUNTS), day):
            found[row["day"], row["label"]] += row["count"]
    assert found[str(DAYS[0]), "car"] == 400
    return dict(found)


def folder_of(store: ObjectStore) -> str:
    return store.url.removeprefix("file://")


def polars_counts(store: ObjectStore) -> dict[tuple[str, str], int]:
    names: dict[str, Any] = {}
    exec(code_for("Polars", **{"s3://bucket/prefix": folder_of(store)}), names)  # noqa: S102 - the page's own code
    return counted(names["counts"].rows())


def clickhouse_counts(sql: str) -> dict[tuple[str, str], int]:
    import chdb  # noqa: PLC0415 - loads slowly

    answer = chdb.query(sql, "JSONCompactEachRow")
    return counted(json.loads(line) for line in str(answer).splitlines())


def test_polars(store):
    fill(store)
    assert polars_counts(store) == summed(store)


@pytest.mark.slow
def test_spark(store):
    fill(store)
    code = code_for("Spark", **{"s3a://bucket/prefix": folder_of(store)})
    environment = {**os.environ, "PYSPARK_SUBMIT_ARGS": SPARK_OPTIONS, "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", code + ROWS], env=environment, capture_output=True, check=True)
    assert counted(json.loads(done.stdout)) == summed(store)


def test_a_day_in_several_objects_is_reported_as_damaged_but_counted_from_the_footer(store):
    fill(store)
    rebuild_day(store, DAYS[0], force=True, now=NOON, limits=BuildLimits(object_bytes=1000))
    path = f"{folder_of(store)}/detections/day=*/detections.parquet"
    with pytest.raises(BaseException, match="range"):  # a panic of Polars is no Exception
        polars_counts(store)
    with pytest.raises(RuntimeError, match="out of bounds"):
        clickhouse_counts(f"SELECT day, label, count() FROM file('{path}') GROUP BY ALL")  # noqa: S608 - a test's path
    with pytest.raises(duckdb.Error, match="outside file"):
        duckdb.sql(f"SELECT day, label, count(*) FROM read_parquet('{path}') GROUP BY ALL").fetchall()  # noqa: S608 - as above
    assert duckdb.sql(f"SELECT count(*) FROM read_parquet('{path}')").fetchall() == [(622,)]  # noqa: S608 - as above
