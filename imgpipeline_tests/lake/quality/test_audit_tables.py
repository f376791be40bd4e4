"""An audit holds day tables and summaries against the ledger; each test breaks one of them on purpose."""

import io
from datetime import timedelta

import duckdb
import pyarrow.parquet as pq
import pytest

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.records import LogRange
from imgpipeline.lake.build import derived
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.build.summaries import build_summary
from imgpipeline.lake.quality.audit import audit
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.audits import SUMMARY, build, build_all, log_range, run_audit
from imgpipeline_tests.lake.samples import again, day_outcomes, seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, frames

NEXT = DAY + timedelta(days=1)


def change_table(store: ObjectStore, table: str, sql: str, tmp_path) -> None:
    """Write a day table again with other rows, under the manifest it had."""
    key = day_table_key(table, DAY)
    path = tmp_path / "changed.parquet"
    path.write_bytes(store.get(key))
    manifest = pq.read_metadata(path).metadata[b"imgpipeline"].decode().replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet('{path}', hive_partitioning = false)")  # noqa: S608 - own path
        connection.execute(sql)
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet, KV_METADATA {{imgpipeline: '{manifest}'}})")
    store.put(key, path.read_bytes())


CHANGES = {
    "a frame left out": ("frames", "DELETE FROM t WHERE source_kafka_offset = 3", "frames_in_parquet"),
    "a frame doubled": ("frames", "INSERT INTO t SELECT * FROM t LIMIT 1", "duplicates"),
    "a detection left out": ("detections", "DELETE FROM t WHERE source_kafka_offset = 2", "detections_in_parquet"),
    "a detection doubled": ("detections", "INSERT INTO t SELECT * FROM t LIMIT 1", "duplicates"),
    "a time changed": ("frames", "UPDATE t SET \"timestamp\" = \"timestamp\" + INTERVAL 1 MICROSECOND", None),
    "a dead letter left out": ("dead_letters", "DELETE FROM t", "dead_letters_in_parquet"),
    "a dead letter doubled": ("dead_letters", "INSERT INTO t SELECT * FROM t LIMIT 1", "duplicates"),
    "a code changed": ("dead_letters", "UPDATE t SET code = 'TOO_LARGE'", None),
    "a label changed": ("detections", "UPDATE t SET label = 'cat' WHERE label = 'dog'", None),
}  # fmt: skip


@pytest.fixture(scope="module")
def good() -> dict[str, object]:
    """What an audit says of the day as it was built."""
    store = open_memory_store()
    build_all(store)
    return run_audit(store).to_json()["days"][0]


@pytest.mark.medium
@pytest.mark.parametrize(("table", "sql", "figure"), CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_table_is_found(memory, good: dict[str, object], tmp_path, table: str, sql: str, figure: str | None):
    build_all(memory)
    change_table(memory, table, sql, tmp_path)
    for report in (run_audit(memory), run_audit(memory)):
        assert not report.ok
        assert day_table_key(table, DAY) in " ".join(report.problems)
        different = {name for name, value in report.to_json()["days"][0].items() if value != good[name]}
        assert (figure in different) if figure else different == set()


def test_a_damaged_table_is_named_and_the_rest_is_still_audited(memory: ObjectStore):
    build_all(memory)
    data = bytearray(memory.get(day_table_key("frames", DAY)))
    data[40:200] = b"\x00" * 160
    memory.put(day_table_key("frames", DAY), bytes(data))
    report = run_audit(memory)
    assert not report.ok
    day = report.to_json()["days"][0]
    assert (day["frames_in_parquet"], day["detections_in_parquet"], day["dead_letters_in_parquet"]) == (None, 8, 1)


@pytest.mark.medium
def test_a_changed_summary_is_found(store: ObjectStore, tmp_path):
    build_all(store)
    path = tmp_path / "summary.parquet"
    path.write_bytes(store.get(SUMMARY))
    table = pq.read_table(path, partitioning=None)
    counts = table["count"].to_pylist()
    changed = table.set_column(table.schema.get_field_index("count"), "count", [[counts[0] + 1, *counts[1:]]])
    manifest = pq.read_metadata(path).metadata[b"imgpipeline"]
    out = io.BytesIO()
    pq.write_table(changed.replace_schema_metadata({"imgpipeline": manifest}), out)
    store.put(SUMMARY, out.getvalue())
    report = run_audit(store)
    assert [(s.name, s.ok) for s in report.summaries] == [("label_counts", False)]
    assert SUMMARY in report.problems[0]


@pytest.mark.medium
def test_a_day_that_was_touched_since_is_stale_and_not_wrong(store: ObjectStore):
    made = build_all(store)
    append(made, [seen(12, ["dog"]), again(13, of=0, labels=["car"])])
    append(made, frames(14, 15, NEXT))
    report = run_audit(store)
    assert report.ok
    assert not report.current
    assert [
        (d["day"], d["frames_in_ledger"], d["frames_in_parquet"], d["stale"]) for d in report.to_json()["days"]
    ] == [
        ("2026-01-09", 7, 7, True),
        ("2026-01-10", 1, 0, True),
    ]


@pytest.mark.medium
def test_a_summary_of_older_detections_is_compared_with_the_ledger_of_that_time(memory: ObjectStore):
    made = build_all(memory)
    append(made, [seen(12, ["dog", "dog"])])
    rebuild_day(memory, DAY, now=NOON)
    report = run_audit(memory)
    assert [(s.ok, s.stale) for s in report.summaries] == [(True, True)]
    assert not report.current
    build_summary(memory, "label_counts", DAY, settings=Settings(), now=NOON)
    assert run_audit(memory).current


@pytest.mark.medium
@pytest.mark.parametrize(("puts", "figures"), [(1, (8, 8, 1)), (2, (8, 10, 1))])
def test_between_the_puts_of_a_build_all_tables_are_right_for_their_own_ends(
    memory: ObjectStore, monkeypatch, puts: int, figures: tuple[int, ...]
):
    made = build_all(memory)
    append(made, [seen(12, ["dog", "dog"]), dead_letter(13)])
    put, calls = derived.publish, []

    def stop(*arguments):
        calls.append(1)
        return put(*arguments) if len(calls) <= puts else pytest.fail("killed here")

    monkeypatch.setattr(derived, "publish", stop)
    with pytest.raises(pytest.fail.Exception):
        rebuild_day(memory, DAY, now=NOON)
    report = run_audit(memory)
    assert report.ok
    day = report.to_json()["days"][0]
    tables = ("frames", "detections", "dead_letters")
    assert tuple(day[f"{table}_in_parquet"] for table in tables) == figures
    assert day["stale"]


@pytest.mark.medium
def test_a_build_that_runs_during_an_audit_does_not_look_wrong(memory: ObjectStore):
    made = build_all(memory)

    def read_logs() -> list[LogRange]:
        append(made, day_outcomes(12, 15))
        build(memory)
        return [log_range(15)]

    assert audit(memory, read_logs, now=NOON, full=True).ok
