"""An audit is ok where every offset has one outcome and tables agree; each test breaks one thing on purpose."""

import io
from dataclasses import replace
from datetime import timedelta
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from imgpipeline.contracts.keys import ChainId, audit_state_key, day_table_key, segment_key, summary_key
from imgpipeline.contracts.log import LogRange
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.errors import TransientError
from imgpipeline.lake import day_tables
from imgpipeline.lake.audit import AuditReport, audit
from imgpipeline.lake.audit_state import read_state
from imgpipeline.lake.day_tables import rebuild_day
from imgpipeline.lake.summaries import build_summary
from imgpipeline.objectstore import ForbiddenError, ObjectStore
from imgpipeline_tests.lake.samples import again, day_outcomes, gated, seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, dead_letter, frames, gap, write_chain
from imgpipeline_tests.ledger.test_audit import smuggle

NEXT = DAY + timedelta(days=1)
SUMMARY = summary_key("label_counts", DAY)


def run(store: ObjectStore, *logs: LogRange, **options: Any) -> AuditReport:
    return audit(store, lambda: logs, now=NOON, **options)


def log(end: int, start: int = 0, chain: ChainId = CHAIN) -> LogRange:
    return LogRange(chain.topic, chain.topic_id, chain.partition, start, end)


def build(store: ObjectStore) -> None:
    rebuild_day(store, DAY, now=NOON)
    build_summary(store, "label_counts", DAY, now=NOON)


def build_all(store: ObjectStore):
    """A day with duplicates, a gated frame, a dead letter and a gap; built. Answers the chain's writer."""
    made = write_chain(
        store,
        day_outcomes(0, 6),
        [dead_letter(6), gated(7), again(8, of=7, labels=["dog"]), again(9, of=1, labels=["dog"])],
        [Gap(10, 12, GapReason.MARKER)],
    )
    build(store)
    return made


def test_the_report_has_exactly_the_agreed_form(store: ObjectStore):
    build_all(store)
    report = run(store, log(20))
    assert report.to_json() == {
        "ok": True,
        "partitions": [
            {
                "topic": CHAIN.topic,
                "topic_id": CHAIN.topic_id,
                "partition": 0,
                "log_start": 0,
                "log_end": 20,
                "ledger_start": 0,
                "ledger_end": 12,
                "frames": 8,
                "gated": 1,
                "dead_letters": 1,
                "gaps": {"marker": 2},
                "missing": 0,
                "overlapping": 0,
            }
        ],
        "days": [
            {
                "day": "2026-01-09",
                "frames_in_ledger": 7,
                "frames_in_parquet": 7,
                "detections_in_ledger": 8,
                "detections_in_parquet": 8,
                "duplicates": 0,
                "stale": False,
            }
        ],
        "summaries": [{"name": "label_counts", "day": "2026-01-09", "ok": True}],
    }
    assert report.current
    assert report.problems == ()


def test_an_empty_store_is_ok_and_lag_is_not_missing(memory: ObjectStore):
    assert run(memory).ok
    report = run(memory, log(50, start=10), log(0, chain=replace(CHAIN, partition=1)))
    assert report.ok
    assert [(p["log_start"], p["log_end"], p["ledger_end"]) for p in report.to_json()["partitions"]] == [
        (10, 50, 0),
        (0, 0, 0),
    ]


def test_chains_whose_topic_is_gone_are_audited_without_a_log(memory: ObjectStore):
    write_chain(memory, frames(0, 3), chain=ChainId("import.csv", "file", 0))
    build_all(memory)
    report = run(memory, log(12)).to_json()
    assert [(p["topic"], p["log_start"], p["log_end"], p["frames"]) for p in report["partitions"]] == [
        ("frames", 0, 12, 8),
        ("import.csv", None, None, 3),
    ]
    assert report["ok"]


def test_the_ledger_s_ends_are_read_before_the_log_s(memory: ObjectStore):
    """What is committed while the log is asked must not look as if the ledger were ahead of it."""
    made = build_all(memory)

    def read_logs() -> list[LogRange]:
        append(made, frames(12, 15))
        return [log(15)]

    report = audit(memory, read_logs, now=NOON)
    assert report.partitions[0].found.position == 12
    assert report.ok


def test_a_ledger_that_ends_behind_its_log_is_a_contradiction(memory: ObjectStore):
    build_all(memory)
    report = run(memory, log(11))
    assert not report.ok
    assert "truncated" in report.problems[0]


@pytest.mark.parametrize("reason", GapReason)
def test_only_expired_offsets_need_to_be_allowed(memory: ObjectStore, reason: GapReason):
    write_chain(memory, [Gap(0, 5, reason)])
    for report in (run(memory), run(memory)):
        assert report.ok == (reason is not GapReason.EXPIRED)
        assert bool(report.problems) == (reason is GapReason.EXPIRED)
    assert run(memory, allow_gaps=True).ok


def test_offsets_that_expired_before_they_were_read_are_named_before_they_are_a_gap(memory: ObjectStore):
    write_chain(memory, frames(0, 3))
    report = run(memory, log(20, start=10))
    assert not report.ok
    assert "[3, 10) expired" in report.problems[0]
    assert run(memory, log(20, start=10), allow_gaps=True).ok


def test_a_removed_segment_is_found_by_a_full_audit(store: ObjectStore):
    build_all(store)
    assert run(store).ok
    store.delete(segment_key(CHAIN, 0))
    report = run(store, full=True)
    assert (report.ok, report.partitions[0].found.missing) == (False, 6)
    assert any("[0, 6) have no outcome" in problem for problem in report.problems)
    assert report.to_json()["days"][0]["frames_in_ledger"] is None


def test_a_doubled_range_is_found(memory: ObjectStore):
    build_all(memory)
    smuggle(memory, frames(4, 8))
    report = run(memory)
    assert (report.ok, report.partitions[0].found.overlapping) == (False, 4)


def test_a_damaged_segment_is_named(store: ObjectStore):
    build_all(store)
    data = bytearray(store.get(segment_key(CHAIN, 6)))
    data[len(data) // 2] ^= 0xFF
    store.put(segment_key(CHAIN, 6), bytes(data))
    report = run(store)
    assert not report.ok
    assert all(segment_key(CHAIN, 6) in problem for problem in report.problems if "damaged" in problem)
    assert any("damaged" in problem for problem in report.problems)


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
    "a label changed": ("detections", "UPDATE t SET label = 'cat' WHERE label = 'dog'", None),
}  # fmt: skip


@pytest.mark.parametrize(("table", "sql", "figure"), CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_table_is_found(memory: ObjectStore, tmp_path, table: str, sql: str, figure: str | None):
    build_all(memory)
    good = run(memory).to_json()["days"][0]
    change_table(memory, table, sql, tmp_path)
    for report in (run(memory), run(memory)):
        assert not report.ok
        assert day_table_key(table, DAY) in " ".join(report.problems)
        different = {name for name, value in report.to_json()["days"][0].items() if value != good[name]}
        assert (figure in different) if figure else different == set()


def test_a_damaged_table_is_named_and_the_rest_is_still_audited(memory: ObjectStore):
    build_all(memory)
    data = bytearray(memory.get(day_table_key("frames", DAY)))
    data[40:200] = b"\x00" * 160
    memory.put(day_table_key("frames", DAY), bytes(data))
    report = run(memory)
    assert not report.ok
    day = report.to_json()["days"][0]
    assert (day["frames_in_parquet"], day["detections_in_parquet"]) == (None, 8)


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
    report = run(store)
    assert [(s.name, s.ok) for s in report.summaries] == [("label_counts", False)]
    assert SUMMARY in report.problems[0]


def test_a_day_that_was_touched_since_is_stale_and_not_wrong(store: ObjectStore):
    made = build_all(store)
    append(made, [seen(12, ["dog"]), again(13, of=0, labels=["car"])])
    append(made, frames(14, 15, NEXT))
    report = run(store)
    assert report.ok
    assert not report.current
    assert [
        (d["day"], d["frames_in_ledger"], d["frames_in_parquet"], d["stale"]) for d in report.to_json()["days"]
    ] == [
        ("2026-01-09", 7, 7, True),
        ("2026-01-10", 0, 0, True),
    ]


def test_a_summary_of_older_detections_is_held_against_the_ledger_as_it_was(memory: ObjectStore):
    made = build_all(memory)
    append(made, [seen(12, ["dog", "dog"])])
    rebuild_day(memory, DAY, now=NOON)
    report = run(memory)
    assert [(s.ok, s.stale) for s in report.summaries] == [(True, True)]
    assert not report.current
    build_summary(memory, "label_counts", DAY, now=NOON)
    assert run(memory).current


def test_between_the_two_puts_of_a_build_both_tables_are_right_for_their_own_ends(memory: ObjectStore, monkeypatch):
    made = build_all(memory)
    append(made, [seen(12, ["dog", "dog"])])
    put, calls = day_tables.replace_whole, []

    def stop(*arguments):
        calls.append(1)
        return put(*arguments) if len(calls) == 1 else pytest.fail("killed here")

    monkeypatch.setattr(day_tables, "replace_whole", stop)
    with pytest.raises(pytest.fail.Exception):
        rebuild_day(memory, DAY, now=NOON)
    report = run(memory)
    assert report.ok
    day = report.to_json()["days"][0]
    assert (day["frames_in_parquet"], day["detections_in_parquet"], day["stale"]) == (8, 8, True)


def test_a_build_that_runs_during_an_audit_does_not_look_wrong(memory: ObjectStore):
    made = build_all(memory)

    def read_logs() -> list[LogRange]:
        append(made, day_outcomes(12, 15))
        build(memory)
        return [log(15)]

    assert audit(memory, read_logs, now=NOON, full=True).ok


class CountingStore(ObjectStore):
    """A store that notes which objects are read whole."""

    def fetch(self, key: str, *, max_bytes: int | None = None):
        self.read: list[str] = [*getattr(self, "read", []), key]
        return super().fetch(key, max_bytes=max_bytes)


def test_the_next_audit_reads_only_what_is_new(memory: ObjectStore):
    counting = CountingStore(memory._store, memory.url)
    made = build_all(counting)
    steps: list[tuple[int, int]] = []
    run(counting, progress=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert steps[0][1] == 3
    first = run(counting).to_json()
    counting.read = []
    append(made, frames(12, 14, NEXT))
    report = run(counting)
    assert set(counting.read) - {audit_state_key(), segment_key(CHAIN, 10)} == {segment_key(CHAIN, 12)}
    assert report.partitions[0].found.frames == first["partitions"][0]["frames"] + 2
    assert report.to_json()["days"][0] == first["days"][0]
    counting.read = []
    run(counting, full=True)
    assert {segment_key(CHAIN, 0), day_table_key("frames", DAY), SUMMARY} <= set(counting.read)


def test_what_is_wrong_is_found_again_each_time(memory: ObjectStore):
    build_all(memory)
    run(memory)
    made = write_chain(memory)
    append(made, frames(12, 14))
    append(made, frames(14, 16))
    memory.delete(segment_key(CHAIN, 12))
    assert [run(memory).ok for _ in range(3)] == [False, False, False]
    assert CHAIN not in read_state(memory).chains


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"version": 1}', b'{"version": 99, "chains": []}', b'{"version": 1, "chains": [1]}'],
)
def test_a_state_that_cannot_be_read_only_costs_a_longer_audit(memory: ObjectStore, content: bytes):
    build_all(memory)
    expected = run(memory).to_json()
    memory.put(audit_state_key(), content)
    assert run(memory).to_json() == expected


def test_a_store_that_begins_anew_is_audited_from_its_beginning(memory: ObjectStore):
    build_all(memory)
    run(memory)
    for info in list(memory.list_objects("metadata")):
        memory.delete(info.key)
    write_chain(memory, [gap(0, 5)])
    assert run(memory).partitions[0].found.position == 5


def test_an_auditor_who_may_not_write_gets_the_same_answer(memory: ObjectStore):
    class ReadOnly(ObjectStore):
        def put(self, key: str, data: bytes) -> None:
            raise ForbiddenError(f"{key}: {len(data)} bytes refused")

    build_all(memory)
    assert run(ReadOnly(memory._store, memory.url)).ok


def test_a_broker_that_does_not_answer_ends_the_audit(memory: ObjectStore):
    def fail() -> list[LogRange]:
        raise TransientError("no broker")

    with pytest.raises(TransientError, match="no broker"):
        audit(memory, fail, now=NOON)


def test_stray_keys_are_listed_by_a_full_audit_and_do_no_harm(memory: ObjectStore):
    build_all(memory)
    memory.put("metadata/readme.txt", b"")
    report = run(memory, full=True)
    assert (report.ok, report.stray_keys) == (True, ("metadata/readme.txt",))
