"""The books name every session whose accounts differ from its records in the ledger."""

from dataclasses import replace

import pytest

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.outcomes import Gap, GapReason, Outcome
from imgpipeline.ledger.audit import ChainAudit, audit_chain, fix_end
from imgpipeline.ledger.session_books import ChainBooks, join_books
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.samples import CHAIN, append, write_chain
from imgpipeline_tests.ledger.sessions import SESSION, account, buried, said, shot

STARTED, ENDED = NoticeKind.STARTED, NoticeKind.ENDED


def walk(store: ObjectStore, since: ChainAudit | None = None) -> ChainAudit:
    return audit_chain(store, fix_end(store, CHAIN), since=since)


def problems_in(*walked: ChainAudit) -> tuple[str, ...]:
    books, ends = {each.chain: each.books for each in walked}, {each.chain: each.position for each in walked}
    return tuple(problem for session in join_books(books, ends).values() for problem in session.problems())


def problems_of(store: ObjectStore, *outcomes: Outcome) -> tuple[str, ...]:
    write_chain(store, outcomes)
    return problems_in(walk(store))


def test_a_session_that_adds_up_has_no_problem(memory):
    assert not problems_of(
        memory,
        *(said(0, STARTED), shot(1), buried(2, "attributes"), buried(3, "header", source=None), buried(4, "nothing")),
        *(account(5, 4, gated=2, dropped={"queue": 3}, failed=1), said(6, ENDED)),
    )


def test_an_announced_frame_without_a_record_is_named_with_source_session_and_offsets(memory):
    (found,) = problems_of(memory, said(0, STARTED), shot(1), account(2, 2), said(3, ENDED))
    named = f"cam-1, session {SESSION} ({CHAIN}, offsets 0 to 3)"
    assert found == f"{named}: its accounts announce 2 frames, the ledger holds 1 of its records."


def test_an_account_that_does_not_add_up_is_named_with_its_offset(memory):
    (found,) = problems_of(memory, said(0, STARTED), shot(1), account(2, 1, gated=1, received=3))
    assert "the account at offset 2 does not add up" in found


def test_records_after_the_last_account_are_open_until_the_session_ends(memory):
    outcomes = [said(0, STARTED), shot(1), account(2, 1), shot(3), shot(4)]
    assert not problems_of(memory, *outcomes)
    append(write_chain(memory), [said(5, ENDED)])
    (found,) = problems_in(walk(memory))
    assert "announce 1 frame, the ledger holds 3" in found


def test_records_after_the_last_account_of_an_open_session_do_not_replace_lost_ones(memory):
    made = write_chain(memory, [said(0, STARTED), shot(1), account(2, 3), shot(3), shot(4)])
    (found,) = problems_in(walk(memory))
    assert "announce 3 frames, the ledger holds 1 of its records before its last account." in found
    first = walk(memory)
    kept = replace(first, books=ChainBooks.from_json(first.books.to_json()))
    append(made, [shot(5), account(6, 3, minute=1), shot(7)])
    (found,) = problems_in(walk(memory, kept))
    assert "announce 6 frames, the ledger holds 4 of its records before its last account." in found
    assert problems_in(walk(memory)) == (found,)


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(replace(shot(2), replay_of="frames/0/0"), id="replay"),
        pytest.param(buried(2, "notice"), id="bad-notice"),
        pytest.param(shot(2, session="other"), id="other-session"),
        pytest.param(shot(2, source="cam-2"), id="other-source"),
    ],
)
def test_records_that_belong_to_no_session_are_not_counted(memory, foreign):
    assert not problems_of(memory, said(0, STARTED), shot(1), foreign, account(3, 1), said(4, ENDED))


def test_records_that_expired_unread_are_not_a_second_problem(memory):
    lost = Gap(2, 5, GapReason.EXPIRED)
    assert not problems_of(memory, said(0, STARTED), shot(1), lost, account(5, 4), said(6, ENDED))
    other = replace(CHAIN, partition=1)
    write_chain(memory, [said(0, STARTED), lost_from(1), account(5, 6), said(6, ENDED)], chain=other)
    (found,) = problems_in(audit_chain(memory, fix_end(memory, other)))
    assert "announce 6 frames" in found


def lost_from(first: int) -> Gap:
    return Gap(first, 5, GapReason.EXPIRED)


def test_a_session_whose_start_was_not_seen_is_not_judged(memory):
    assert not problems_of(memory, shot(0), account(1, 100), said(2, ENDED))


def test_records_without_a_name_belong_to_the_current_session(memory):
    (found,) = problems_of(
        memory,
        *(shot(0, session=None), said(1, STARTED), shot(2, session=None), account(3, 1), said(4, ENDED)),
        *(shot(5, session=None), said(6, STARTED, session="two"), account(7, 1, session="two")),
        said(8, ENDED, session="two"),
    )
    assert found.startswith("cam-1, session two")


def test_a_session_that_has_ended_and_adds_up_is_settled(memory):
    write_chain(memory, [said(0, STARTED), shot(1), account(2, 1), said(3, ENDED), said(4, STARTED, session="two")])
    walked = walk(memory)
    joined = join_books({CHAIN: walked.books}, {CHAIN: walked.position})
    assert [session for (_, session), found in joined.items() if not found.is_settled] == ["two"]
    assert [session for _, session in walked.books.without({("cam-1", SESSION)}).sessions] == ["two"]
