"""The audit checks the accounts of sessions, and an incremental audit repeats its findings without reading again."""

from dataclasses import replace

import pytest

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.contracts.notices import ANNOUNCED_BEFORE, Notice, NoticeKind
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.lake.quality.audit import AuditReport
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.lake.audits import log_range, run_audit
from imgpipeline_tests.ledger.samples import CHAIN, append, write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot

STARTED, ENDED = NoticeKind.STARTED, NoticeKind.ENDED


@pytest.mark.parametrize("full", [False, True], ids=["incremental", "full"])
def test_this_and_every_later_audit_reports_a_difference(memory, full):
    made = write_chain(memory, [said(0, STARTED), shot(1), account(2, 3)])
    assert not run_audit(memory, log_range(3)).ok
    append(made, [said(3, ENDED)])
    for _ in range(2):
        report = run_audit(memory, log_range(4), full=full)
        assert not report.ok
        (problem,) = report.problems
        assert problem.startswith("cam-1, session b3f0 (frames/")
        assert "offsets 0 to 3" in problem
    assert report.to_json()["partitions"][0]["session_problems"] == [problem]


def test_settled_sessions_are_not_read_again(memory):
    made = write_chain(memory, [said(0, STARTED), shot(1), account(2, 3)], [said(3, ENDED)])
    (before,) = run_audit(memory, log_range(4)).partitions
    memory.delete(segment_key(CHAIN, 0))
    append(made, [shot(4, session=None)])
    (after,) = run_audit(memory, log_range(5)).partitions
    assert after.session_problems == before.session_problems != ()
    assert (after.found.position, after.found.missing) == (5, 0)


def test_a_session_that_spans_several_audits_adds_up_at_its_end(memory):
    made = write_chain(memory, [said(0, STARTED), shot(1), account(2, 1), shot(3)])
    assert run_audit(memory, log_range(4)).ok
    append(made, [account(4, 1, minute=1), said(5, ENDED)])
    assert run_audit(memory, log_range(6)).ok


APART = replace(CHAIN, topic=f"{CHAIN.topic}-notices")
OTHER = replace(CHAIN, partition=1)


def before(offset: int, notice: Notice) -> Notice:
    """Return an account whose frames lie before an offset of the frames' chain."""
    return replace(notice, attributes={ANNOUNCED_BEFORE: {f"{CHAIN.topic}/{CHAIN.partition}": offset}})


def audit_both(store: ObjectStore, frames: int, notices: int, chain: ChainId = APART) -> AuditReport:
    return run_audit(store, log_range(frames), log_range(notices, chain=chain))


def test_notices_in_their_own_topic_are_compared_with_the_frames_of_the_other_topic(memory):
    write_chain(memory, [shot(0), shot(1)])
    notices = write_chain(memory, [said(0, STARTED), before(2, account(1, 2)), said(2, ENDED)], chain=APART)
    for _ in range(2):
        assert audit_both(memory, 2, 3).ok, "and a settled session is not missed by the next audit"
    append(notices, [said(3, STARTED, session="two"), before(2, account(4, 1, session="two"))])
    (problem,) = audit_both(memory, 2, 5).problems
    assert problem.startswith(f"cam-1, session two ({APART}, offsets 3 to 4): its accounts announce 1 frame")


def test_frames_after_the_offset_that_an_account_names_do_not_replace_lost_ones(memory):
    write_chain(memory, [shot(0), shot(1, session="another"), shot(2)], [shot(3)])
    notices = write_chain(memory, [said(0, STARTED), before(2, account(1, 2))], chain=APART)
    for _ in range(2):
        (problem,) = audit_both(memory, 4, 2).problems
        assert "announce 2 frames, the ledger holds 1 of its records before its last account." in problem
    append(notices, [before(4, account(2, 2, minute=1))])
    (problem,) = audit_both(memory, 4, 3).problems
    assert "announce 4 frames, the ledger holds 3" in problem


def test_frames_that_expired_unread_are_not_reported_twice(memory):
    write_chain(memory, [shot(0), Gap(1, 3, GapReason.EXPIRED)])
    write_chain(memory, [said(0, STARTED), before(3, account(1, 3)), said(2, ENDED)], chain=APART)
    assert [partition.session_problems for partition in audit_both(memory, 3, 3).partitions] == [(), ()]


def test_a_session_that_moved_to_another_partition_adds_up_over_both(memory):
    write_chain(memory, [said(0, STARTED), shot(1), shot(2)])
    moved = write_chain(memory, [shot(0), account(1, 3)], chain=OTHER)
    assert audit_both(memory, 3, 2, OTHER).ok
    append(moved, [account(2, 1, minute=1), said(3, ENDED)])
    for _ in range(2):
        (problem,) = audit_both(memory, 3, 4, OTHER).problems
        assert "announce 4 frames, the ledger holds 3" in problem
