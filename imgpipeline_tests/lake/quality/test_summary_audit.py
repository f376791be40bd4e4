"""The audit makes every stored summary again, by the queries and settings of its own manifest."""

import io
import json
from dataclasses import replace
from datetime import timedelta

import duckdb
import pyarrow.parquet as pq
import pytest

from imgpipeline.contracts.keys import day_table_key, summary_key
from imgpipeline.lake.build import summaries
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.build.repaired_days import build_noted_days
from imgpipeline.lake.build.summaries import SUMMARIES, build_summary
from imgpipeline.lake.quality.audit import AuditReport
from imgpipeline.lake.storage.manifest import FOOTER_KEY, Manifest
from imgpipeline.ledger.repair.days_to_build import DaysToBuild
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.audits import run_audit
from imgpipeline_tests.lake.build.test_summary_numbers import build_day, eventful
from imgpipeline_tests.lake.samples import again, day_outcomes, gated, seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, write_chain

STRICT = Settings(summary_threshold=0.515)


def rewrite(store: ObjectStore, name: str, folder, change: str = "SELECT 1", **manifest) -> str:
    """Write a summary again with other rows or another manifest; return its key."""
    key = summary_key(name, DAY)
    path = folder / "changed.parquet"
    path.write_bytes(store.get(key))
    before = Manifest.from_json(pq.read_metadata(path).metadata[FOOTER_KEY.encode()])
    footer = replace(before, **manifest).to_json().replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet('{path}', hive_partitioning = false)")  # noqa: S608 - own path
        connection.execute(change)
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet, KV_METADATA {{{FOOTER_KEY}: '{footer}'}})")
    store.put(key, path.read_bytes())
    return key


def verdicts(report: AuditReport) -> dict[str, tuple[bool, bool]]:
    """Return for each summary whether it is ok, and whether it is stale."""
    return {found.name: (found.ok, found.stale) for found in report.summaries}


def audited(store: ObjectStore, **options) -> dict[str, tuple[bool, bool]]:
    """Audit, and return for each summary whether it is ok, and whether it is stale."""
    return verdicts(run_audit(store, **options))


@pytest.mark.medium
@pytest.mark.parametrize(("store", "threshold"), [("s3", 0.0), ("folder", 0.515)], indirect=["store"])
def test_all_summaries_of_an_eventful_day_are_in_order_and_stay_so_when_they_are_behind(
    store: ObjectStore, threshold: float
):
    """Behind they are rebuilt from the ledger, up to where they reached."""
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
def test_a_summary_of_a_summary_that_was_built_otherwise_since_is_made_again_as_it_was(
    memory: ObjectStore, monkeypatch
):
    """Its manifest holds the threshold and the query of the counts that it was made of."""
    write_chain(memory, eventful())
    build_day(memory, chosen=STRICT)
    monkeypatch.setattr(
        summaries, "read_sql", lambda name, read=summaries.read_sql: read(name).replace("count(*) ", "7")
    )
    build_summary(memory, "label_counts", DAY, settings=Settings(), now=NOON)
    assert audited(memory) == {name: (True, name == "label_totals") for name in SUMMARIES}


CHANGES = {
    "label_counts": "UPDATE t SET max_confidence = max_confidence - 1e-9",
    "label_timestamps": "UPDATE t SET timestamps = list_append(timestamps, timestamps[1])",
    "label_totals": "UPDATE t SET count = count + 1 WHERE label = 'car'",
    "frame_stats": "UPDATE t SET sizes = MAP {512::BIGINT: 8::BIGINT} WHERE processed > 0",
    "source_activity": "DELETE FROM t WHERE source IS NULL",
}


@pytest.mark.medium
@pytest.mark.parametrize("name", SUMMARIES)
def test_a_changed_row_is_found_in_every_summary(memory: ObjectStore, tmp_path, name: str):
    made = write_chain(memory, eventful())
    build_day(memory)
    key = rewrite(memory, name, tmp_path, CHANGES[name])
    others = [other for other in SUMMARIES if other != name]
    stale = {"label_totals"} if name == "label_counts" else set()
    report = run_audit(memory)
    assert verdicts(report) == {name: (False, False)} | {other: (True, other in stale) for other in others}
    assert [problem for problem in report.problems if key in problem]
    append(made, [seen(16)])
    rebuild_day(memory, DAY, now=NOON)
    assert audited(memory)[name][0] is False


@pytest.mark.medium
def test_an_audit_reads_a_summary_again_only_where_it_or_an_input_is_new(memory: ObjectStore, monkeypatch):
    write_chain(memory, eventful())
    build_day(memory)
    run_audit(memory)
    compared: list[str] = []
    compare = "imgpipeline.lake.quality.audit.compare_summary"
    from imgpipeline.lake.quality.summary_audit import compare_summary  # noqa: PLC0415 - beside the name that is patched

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
        ({"sql": "COPY (SELECT 1) TO 'x'"}, "names no query"),
        ({"sql": "SELECT 1; SELECT 2"}, "names no query"),
        ({"sql": "SELEC"}, "DuckDB refuses"),
        ({"sql": "SELECT DATE '2026-01-09' AS day, * FROM read_text('/etc/hostname')"}, "DuckDB refuses"),
        ({"made_of": {"../../frames": "x"}}, "names no table"),
        ({"made_of": {}, "queries": {'x" AS SELECT 1; --': "SELECT 1"}}, "names no table"),
        ({"parameters": {"x\" = 1; --": 1.0}}, "names no setting"),
    ],
)  # fmt: skip
def test_a_manifest_that_was_tampered_with_can_do_no_more_than_read_its_tables(
    memory: ObjectStore, tmp_path, changes: dict[str, object], says: str
):
    write_chain(memory, eventful())
    build_day(memory)
    key = rewrite(memory, "source_activity", tmp_path, **changes)
    report = run_audit(memory)
    assert not report.ok
    assert [problem for problem in report.problems if key in problem and says in problem], report.problems


@pytest.mark.medium
def test_repaired_days_rebuild_all_their_summaries_in_order(memory: ObjectStore):
    """After a repair no end has moved: all are built, and those made of others after them."""
    write_chain(memory, day_outcomes(0, 6), [dead_letter(6)])
    build_day(memory)
    DaysToBuild(memory).cover([DAY])
    later = NOON + timedelta(hours=1)
    assert build_noted_days(memory, settings=Settings(), now=later) == [DAY]
    assert audited(memory) == dict.fromkeys(SUMMARIES, (True, False))
    assert run_audit(memory).current


@pytest.mark.medium
def test_a_summary_of_an_older_release_is_made_again_by_its_own_query(memory: ObjectStore, tmp_path):
    """It named the version of the detections alone, and knew no settings."""
    write_chain(memory, eventful())
    build_day(memory)
    older = "SELECT day, label, count(*) AS count FROM detections GROUP BY day, label"
    rows = "CREATE OR REPLACE TABLE t AS SELECT label, CAST(sum(count) AS BIGINT) AS count FROM t GROUP BY label"
    key = rewrite(memory, "label_counts", tmp_path, rows, sql=older)
    path = tmp_path / "older.parquet"
    path.write_bytes(memory.get(key))
    footer = json.loads(pq.read_metadata(path).metadata[FOOTER_KEY.encode()])
    info = memory.head(day_table_key("detections", DAY))
    assert info is not None
    footer = {name: value for name, value in footer.items() if name not in ("parameters", "queries", "content")}
    table = pq.read_table(path, partitioning=None)
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(footer | {"made_of": info.e_tag})}), out)
    memory.put(key, out.getvalue())
    assert audited(memory)["label_counts"] == (True, False)
    append(write_chain(memory), [seen(16, ["dog"])])
    rebuild_day(memory, DAY, now=NOON)
    assert audited(memory)["label_counts"] == (True, True)
