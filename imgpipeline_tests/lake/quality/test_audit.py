"""An audit is ok if every offset has one outcome and the tables agree; each test breaks one thing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from imgpipeline.contracts.keys import (
    Bucket,
    ChainId,
    audit_state_key,
    bucket_key,
    day_table_key,
    next_chain,
    segment_key,
)
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.contracts.records import LogRange
from imgpipeline.errors import TransientError
from imgpipeline.lake.quality import table_audit
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.quality.audit_state import read_state
from imgpipeline.ledger.chain import close_chain, find_current_end
from imgpipeline.objectstore import ForbiddenError, ObjectStore
from imgpipeline_tests.lake.audits import SUMMARY, build_all, is_current, log_range, run_audit
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, frames, gap, write_chain
from imgpipeline_tests.objectstore.noting import NotingStore

NEXT = DAY + timedelta(days=1)


def test_the_report_has_exactly_the_agreed_form(store):
    build_all(store)
    report = run_audit(store, log_range(20))
    assert report.to_json() == {
        "ok": True,
        "partitions": [
            {
                "topic": CHAIN.topic,
                "topic_id": CHAIN.topic_id,
                "partition": 0,
                "log_compared": True,
                "log_start": 0,
                "log_end": 20,
                "ledger_start": 0,
                "ledger_end": 12,
                "frames": 8,
                "gated": 1,
                "dead_letters": 1,
                "gaps": {"marker": 2},
                **dict.fromkeys(("notices", "missing", "overlapping"), 0),
                "session_problems": [],
            }
        ],
        "days": [
            {
                "day": "2026-01-09",
                "state": "compared",
                "frames_in_ledger": 7,
                "frames_in_parquet": 7,
                "detections_in_ledger": 8,
                "detections_in_parquet": 8,
                "dead_letters_in_ledger": 1,
                "dead_letters_in_parquet": 1,
                **dict.fromkeys(("notices_in_ledger", "notices_in_parquet", "duplicates"), 0),
                "stale": False,
            }
        ],
        "summaries": [{"name": "label_counts", "day": "2026-01-09", "ok": True}],
    }
    assert (is_current(report), report.problems) == (True, ())


def test_an_empty_store_is_ok_and_lag_is_not_missing(memory):
    assert run_audit(memory).ok
    report = run_audit(memory, log_range(50, start=10), log_range(0, chain=replace(CHAIN, partition=1)))
    assert report.ok
    assert [(p["log_start"], p["log_end"], p["ledger_end"]) for p in report.to_json()["partitions"]] == [
        (10, 50, 0),
        (0, 0, 0),
    ]


def test_a_ledger_with_imports_only_is_audited_without_kafka(memory):
    def fail() -> list[LogRange]:
        raise TransientError("no broker")

    imported = ChainId("import.csv", "detections", 0)
    write_chain(memory, frames(0, 3), chain=imported)
    report = audit(memory, fail, now=NOON)
    assert report.ok
    assert [p["log_compared"] for p in report.to_json()["partitions"]] == [False]
    assert report.without_log == {"an import has no log": (imported,)}
    write_chain(memory, frames(0, 3))
    with pytest.raises(TransientError, match="no broker"):
        audit(memory, fail, now=NOON)


def test_chains_whose_topic_is_gone_are_audited_without_a_log(memory):
    write_chain(memory, frames(0, 3), chain=ChainId("import.csv", "file", 0))
    build_all(memory)
    report = run_audit(memory, log_range(12)).to_json()
    assert [(p["topic"], p["log_start"], p["log_end"], p["frames"]) for p in report["partitions"]] == [
        ("frames", 0, 12, 8),
        ("import.csv", None, None, 3),
    ]
    assert report["ok"]


def test_the_ends_of_the_ledger_are_read_before_those_of_the_log(memory):
    """Segments that are written while the log is read must not make the ledger look longer than the log."""
    made = build_all(memory)

    def read_logs() -> list[LogRange]:
        append(made, frames(12, 15))
        return [log_range(15)]

    report = audit(memory, read_logs, now=NOON)
    assert report.partitions[0].found.position == 12
    assert report.ok


def test_a_ledger_that_ends_after_its_log_is_a_contradiction(memory):
    build_all(memory)
    report = run_audit(memory, log_range(11))
    assert not report.ok
    assert "truncated" in report.problems[0]


@pytest.mark.parametrize("reason", GapReason)
def test_only_expired_offsets_must_be_allowed(memory, reason):
    write_chain(memory, [Gap(0, 5, reason)])
    for report in (run_audit(memory), run_audit(memory)):
        assert report.ok == (reason is not GapReason.EXPIRED)
        assert bool(report.problems) == (reason is GapReason.EXPIRED)
    assert run_audit(memory, allow_gaps=True).ok


def test_offsets_that_expired_unread_are_reported_before_they_become_a_gap(memory):
    write_chain(memory, frames(0, 3))
    report = run_audit(memory, log_range(20, start=10))
    assert not report.ok
    assert "[3, 10) expired" in report.problems[0]
    assert run_audit(memory, log_range(20, start=10), allow_gaps=True).ok


@pytest.mark.medium
def test_a_removed_segment_is_found_by_a_full_audit(memory):
    build_all(memory)
    assert run_audit(memory).ok
    memory.delete(segment_key(CHAIN, 0))
    report = run_audit(memory, full=True)
    assert (report.ok, report.partitions[0].found.missing) == (False, 6)
    assert any("[0, 6) have no outcome" in problem for problem in report.problems)
    assert any("has a hole" in problem for problem in report.problems)
    assert all("imgpipeline ledger repair" in problem for problem in report.problems)
    assert report.to_json()["days"][0]["frames_in_ledger"] is None


@pytest.mark.medium
def test_a_segment_that_the_day_index_does_not_name_is_found(memory):
    """Days are read through the index: without this, tables and audit would miss the same frames."""
    made = build_all(memory)
    append(made, frames(12, 14, NEXT))
    entry = bucket_key(Bucket(NEXT, CHAIN, 0))
    memory.delete(entry)
    report = run_audit(memory)
    assert not report.ok
    assert any(entry in problem and segment_key(CHAIN, 12) in problem for problem in report.problems)


@pytest.mark.medium
def test_the_next_audit_reads_only_what_is_new(memory, monkeypatch):
    counting = NotingStore(memory)
    monkeypatch.setattr(table_audit, "fetch_table", counting.fetch_table)
    made = build_all(counting)
    steps: list[tuple[int, int]] = []
    run_audit(counting, progress=lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert steps[:3] == [(6, 12), (10, 12), (12, 12)]
    first = run_audit(counting).to_json()
    counting.fetched.clear()
    append(made, [gap(12, 1000)])
    append(made, frames(1000, 1002, NEXT))
    report = run_audit(counting)
    assert set(counting.fetched) - {audit_state_key(), segment_key(CHAIN, 10)} == {
        segment_key(CHAIN, 12),
        segment_key(CHAIN, 1000),
    }
    assert report.partitions[0].found.frames == first["partitions"][0]["frames"] + 2
    assert report.to_json()["days"][0] == first["days"][0]
    counting.fetched.clear()
    run_audit(counting, full=True)
    assert {segment_key(CHAIN, 0), day_table_key("frames", DAY), SUMMARY} <= set(counting.fetched)


@pytest.mark.medium
def test_each_audit_reports_a_fault_again(memory):
    build_all(memory)
    run_audit(memory)
    made = write_chain(memory)
    append(made, frames(12, 14))
    append(made, frames(14, 16))
    memory.delete(segment_key(CHAIN, 12))
    assert [run_audit(memory).ok for _ in range(3)] == [False, False, False]
    assert CHAIN not in read_state(memory).chains


@pytest.mark.medium
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"version": 1}', b'{"version": 99, "chains": []}', b'{"version": 1, "chains": [1]}'],
)
def test_an_unreadable_state_only_makes_the_audit_slower(memory, content):
    build_all(memory)
    expected = run_audit(memory).to_json()
    memory.put(audit_state_key(), content)
    assert run_audit(memory).to_json() == expected


@pytest.mark.medium
def test_a_store_that_starts_over_is_audited_from_the_start(memory):
    build_all(memory)
    run_audit(memory)
    for info in list(memory.list_objects("metadata")):
        memory.delete(info.key)
    write_chain(memory, [gap(0, 5)])
    assert run_audit(memory).partitions[0].found.position == 5


@pytest.mark.medium
def test_an_account_without_write_access_gets_the_same_audit(memory):
    class ReadOnly(ObjectStore):
        def put(self, key: str, data: bytes) -> None:
            raise ForbiddenError(f"{key}: {len(data)} bytes refused")

    build_all(memory)
    assert run_audit(ReadOnly(memory.clients, memory.url)).ok


def test_a_full_audit_lists_and_ignores_stray_keys(memory):
    build_all(memory)
    memory.put("metadata/readme.txt", b"")
    report = run_audit(memory, full=True)
    assert (report.ok, report.stray_keys) == (True, ("metadata/readme.txt",))


def test_a_removed_closing_segment_is_found_by_the_next_chain(store):
    write_chain(store, frames(0, 3))
    assert close_chain(store, find_current_end(store, CHAIN), run_id="closing", created_at=NOON)
    write_chain(store, frames(0, 2), chain=next_chain(CHAIN))
    assert "is not closed" not in str(run_audit(store, log_range(2)).problems)
    store.delete(segment_key(CHAIN, 3))
    assert f"{CHAIN} is not closed, but {next_chain(CHAIN)} exists" in str(run_audit(store, log_range(2)).problems)
