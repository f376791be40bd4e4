"""The audit verifies the accounts of sessions; an incremental one repeats what was found without reading it again."""

import pytest

from imgpipeline.contracts.keys import segment_key
from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.lake.audits import log_range, run_audit
from imgpipeline_tests.ledger.samples import CHAIN, append, write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot

STARTED, ENDED = NoticeKind.STARTED, NoticeKind.ENDED


def test_accounts_that_add_up_are_ok(memory: ObjectStore):
    write_chain(memory, [said(0, STARTED), shot(1), account(2, 1, dropped={"queue": 4}), said(3, ENDED)])
    report = run_audit(memory, log_range(4))
    assert (report.ok, report.problems) == (True, ())


@pytest.mark.parametrize("full", [False, True], ids=["incremental", "full"])
def test_a_difference_is_a_finding_of_this_and_every_later_audit(memory: ObjectStore, full: bool):
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


def test_what_was_found_is_not_read_again(memory: ObjectStore):
    made = write_chain(memory, [said(0, STARTED), shot(1), account(2, 3)], [said(3, ENDED)])
    (before,) = run_audit(memory, log_range(4)).partitions
    memory.delete(segment_key(CHAIN, 0))
    append(made, [shot(4, session=None)])
    (after,) = run_audit(memory, log_range(5)).partitions
    assert after.session_problems == before.session_problems != ()
    assert (after.found.position, after.found.missing) == (5, 0)


def test_a_session_that_spans_several_audits_adds_up_at_its_end(memory: ObjectStore):
    made = write_chain(memory, [said(0, STARTED), shot(1), account(2, 1), shot(3)])
    assert run_audit(memory, log_range(4)).ok
    append(made, [account(4, 1, minute=1), said(5, ENDED)])
    assert run_audit(memory, log_range(6)).ok
