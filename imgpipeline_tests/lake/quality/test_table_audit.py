"""The audit finds every way in which stored tables and summaries can differ from the ledger."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from imgpipeline.contracts.keys import day_table_key, summary_key
from imgpipeline.contracts.records import LogRange
from imgpipeline.lake.days import derived, summaries
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.quality.audit import AuditReport, audit
from imgpipeline.lake.storage.manifest import FOOTER_KEY, parse_footer
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.audits import SUMMARY, build, build_all, is_current, log_range, run_audit
from imgpipeline_tests.lake.days.test_summary_numbers import build_day, eventful
from imgpipeline_tests.lake.samples import again, day_outcomes, gated, seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, frames, write_chain

NEXT = DAY + timedelta(days=1)


def rewrite(store: ObjectStore, key: str, folder: Path, change: str = "SELECT 1", **manifest: object) -> None:
    """Write a table `t` again with other rows or another manifest."""
    path = folder / "changed.parquet"
    path.write_bytes(store.get(key))
    footer = replace(parse_footer(path, key), **manifest).to_json().replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet('{path}', hive_partitioning = false)")  # noqa: S608 - own path
        connection.execute(change)
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet, KV_METADATA {{{FOOTER_KEY}: '{footer}'}})")
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
def test_a_changed_table_is_found(memory, good, tmp_path, table, sql, figure):
    build_all(memory)
    rewrite(memory, day_table_key(table, DAY), tmp_path, sql)
    for report in (run_audit(memory), run_audit(memory)):
        assert not report.ok
        assert day_table_key(table, DAY) in " ".join(report.problems)
        different = {name for name, value in report.to_json()["days"][0].items() if value != good[name]}
        assert (figure in different) if figure else different == set()


def test_a_damaged_table_is_named_and_the_rest_is_still_audited(memory):
    build_all(memory)
    data = bytearray(memory.get(day_table_key("frames", DAY)))
    data[40:200] = b"\x00" * 160
    memory.put(day_table_key("frames", DAY), bytes(data))
    report = run_audit(memory)
    assert not report.ok
    day = report.to_json()["days"][0]
    assert (day["frames_in_parquet"], day["detections_in_parquet"], day["dead_letters_in_parquet"]) == (None, 8, 1)


@pytest.mark.medium
def test_a_day_that_was_touched_since_is_stale_and_not_wrong(store):
    made = build_all(store)
    append(made, [seen(12, ["dog"]), again(13, of=0, labels=["car"])])
    append(made, frames(14, 15, NEXT))
    report = run_audit(store)
    assert report.ok
    assert not is_current(report)
    assert [
        (d["day"], d["frames_in_ledger"], d["frames_in_parquet"], d["stale"]) for d in report.to_json()["days"]
    ] == [
        ("2026-01-09", 7, 7, True),
        ("2026-01-10", 1, 0, True),
    ]


@pytest.mark.medium
def test_a_summary_of_older_detections_is_compared_with_the_ledger_of_that_time(memory):
    made = build_all(memory)
    append(made, [seen(12, ["dog", "dog"])])
    rebuild_day(memory, DAY, now=NOON)
    report = run_audit(memory)
    assert [(s.ok, s.stale) for s in report.summaries] == [(True, True)]
    assert not is_current(report)
    build_summary(memory, "label_counts", DAY, settings=Settings(), now=NOON)
    assert is_current(run_audit(memory))


@pytest.mark.medium
@pytest.mark.parametrize(("puts", "figures"), [(1, (8, 8, 1)), (2, (8, 10, 1))])
def test_while_a_build_stores_tables_each_is_right_up_to_its_own_ends(memory, monkeypatch, puts, figures):
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
def test_a_build_that_runs_during_an_audit_does_not_look_wrong(memory):
    made = build_all(memory)

    def read_logs() -> list[LogRange]:
        append(made, day_outcomes(12, 15))
        build(memory)
        return [log_range(15)]

    assert audit(memory, read_logs, now=NOON, full=True).ok


STRICT = Settings(summary_threshold=0.515)


def verdicts(report: AuditReport) -> dict[str, tuple[bool, bool]]:
    """Return for each summary whether it is ok, and whether it is stale."""
    return {found.name: (found.ok, found.stale) for found in report.summaries}


def audited(store: ObjectStore, **options) -> dict[str, tuple[bool, bool]]:
    """Audit, and return for each summary whether it is ok, and whether it is stale."""
    return verdicts(run_audit(store, **options))


@pytest.mark.medium
@pytest.mark.parametrize(("store", "threshold"), [("s3", 0.0), ("folder", 0.515)], indirect=["store"])
def test_all_summaries_of_an_eventful_day_are_ok_and_stay_ok_when_stale(store, threshold):
    """Stale summaries are rebuilt from the ledger up to their ends."""
    chosen = Settings(summary_threshold=threshold)
    made = write_chain(store, eventful())
    build_day(store, chosen=chosen)
    assert audited(store) == dict.fromkeys(SUMMARIES, (True, False))
    assert run_audit(store).to_json()["summaries"] == [
        {"name": name, "day": "2026-01-09", "ok": True} for name in sorted(SUMMARIES)
    ]
    append(made, [seen(16, ["dog"]), dead_letter(17), again(18, of=8, labels=["car"]), gated(19)])
    rebuild_day(store, DAY, now=NOON)
    assert audited(store) == {name: (True, name != "label_totals") for name in SUMMARIES}
    for name in SUMMARIES:
        if name != "label_totals":
            build_summary(store, name, DAY, settings=chosen, now=NOON)
    assert audited(store) == {name: (True, name == "label_totals") for name in SUMMARIES}


@pytest.mark.medium
def test_a_summary_is_remade_from_its_own_version_of_another_summary(memory, monkeypatch):
    """Its manifest holds the threshold and query of the counts among its inputs."""
    write_chain(memory, eventful())
    build_day(memory, chosen=STRICT)
    monkeypatch.setattr(
        summaries, "read_sql", lambda *name, read=summaries.read_sql: read(*name).replace("count(*) ", "7")
    )
    build_summary(memory, "label_counts", DAY, settings=Settings(), now=NOON)
    assert audited(memory) == {name: (True, name == "label_totals") for name in SUMMARIES}


SUMMARY_CHANGES = {
    "label_counts": "UPDATE t SET max_confidence = max_confidence - 1e-9",
    "label_timestamps": "UPDATE t SET timestamps = list_append(timestamps, timestamps[1])",
    "label_totals": "UPDATE t SET count = count + 1 WHERE label = 'car'",
    "frame_stats": "UPDATE t SET sizes = MAP {512::BIGINT: 8::BIGINT} WHERE processed > 0",
    "source_activity": "DELETE FROM t WHERE source IS NULL",
}


@pytest.mark.medium
@pytest.mark.parametrize("name", SUMMARIES)
def test_a_changed_row_is_found_in_every_summary(memory, tmp_path, name):
    made = write_chain(memory, eventful())
    build_day(memory)
    key = summary_key(name, DAY)
    rewrite(memory, key, tmp_path, SUMMARY_CHANGES[name])
    others = [other for other in SUMMARIES if other != name]
    report = run_audit(memory)
    assert verdicts(report) == {name: (False, False)} | dict.fromkeys(others, (True, False))
    assert [problem for problem in report.problems if key in problem]
    append(made, [seen(16)])
    rebuild_day(memory, DAY, now=NOON)
    assert audited(memory)[name][0] is False


@pytest.mark.medium
def test_an_audit_reads_a_summary_again_only_if_it_or_an_input_is_new(memory, monkeypatch):
    write_chain(memory, eventful())
    build_day(memory)
    run_audit(memory)
    compared: list[str] = []
    compare = "imgpipeline.lake.quality.audit.compare_summary"
    from imgpipeline.lake.quality.table_audit import compare_summary  # noqa: PLC0415 - beside the name that is patched

    monkeypatch.setattr(compare, lambda reader, name: (compared.append(name), compare_summary(reader, name))[1])
    run_audit(memory)
    assert compared == []
    build_summary(memory, "label_counts", DAY, settings=Settings(), now=NOON, force=True)
    run_audit(memory)
    assert compared == ["label_counts", "label_totals"]
    run_audit(memory, full=True)
    assert set(compared[2:]) == set(SUMMARIES)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sql": "COPY (SELECT 1) TO 'x'"}, "is not a single SELECT"),
        ({"sql": "SELECT 1; SELECT 2"}, "is not a single SELECT"),
        ({"sql": "SELEC"}, "DuckDB reports an error"),
        ({"sql": "SELECT DATE '2026-01-09' AS day, * FROM read_text('/etc/hostname')"}, "DuckDB reports an error"),
        ({"made_of": {"../../frames": "x"}}, "invalid name of a table"),
        ({"made_of": {}, "queries": {'x" AS SELECT 1; --': "SELECT 1"}}, "invalid name of a table"),
        ({"parameters": {"x\" = 1; --": 1.0}}, "invalid name of a setting"),
    ],
)  # fmt: skip
def test_a_tampered_manifest_can_only_read_its_tables(memory, tmp_path, changes, says):
    write_chain(memory, eventful())
    build_day(memory)
    key = summary_key("source_activity", DAY)
    rewrite(memory, key, tmp_path, **changes)
    report = run_audit(memory)
    assert not report.ok
    assert [problem for problem in report.problems if key in problem and says in problem], report.problems


@pytest.mark.medium
def test_a_summary_by_another_query_is_remade_by_that_query(memory, tmp_path):
    write_chain(memory, eventful())
    build_day(memory)
    other = "SELECT day, label, count(*) AS count FROM detections GROUP BY day, label"
    rows = "CREATE OR REPLACE TABLE t AS SELECT label, CAST(sum(count) AS BIGINT) AS count FROM t GROUP BY label"
    rewrite(memory, SUMMARY, tmp_path, rows, sql=other)
    assert audited(memory)["label_counts"] == (True, False)
    append(write_chain(memory), [seen(16, ["dog"])])
    rebuild_day(memory, DAY, now=NOON)
    assert audited(memory)["label_counts"] == (True, True)
