"""The books of the sources balance with the ledger, whatever was announced twice, lost or killed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from imgpipeline import Lake
from imgpipeline.contracts.notices import ANNOUNCED_BEFORE, NoticeKind
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.books import BookEntry, SessionState, books_of_session, books_table, read_books
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.audits import log_range, run_audit
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, write_chain
from imgpipeline_tests.ledger.sessions import account, buried, said, shot

pytestmark = pytest.mark.medium

STARTED, ENDED = NoticeKind.STARTED, NoticeKind.ENDED
NEXT = DAY + timedelta(days=1)


@pytest.fixture(params=["built", "unbuilt"])
def is_built(request: pytest.FixtureRequest) -> bool:
    """Whether the tables are stored, or only the ledger has the records."""
    return bool(request.param == "built")


def books_of(store: ObjectStore, *outcomes: Outcome, is_built: bool = False) -> list[BookEntry]:
    write_chain(store, outcomes)
    if is_built:
        for day in (DAY, NEXT):
            rebuild_day(store, day, now=NOON)
    return list(read_books(store, Settings()))


def test_a_closed_session_balances(memory, is_built):
    (entry,) = books_of(
        memory,
        *(said(0, STARTED), shot(1), shot(2), buried(3, "attributes"), buried(4, "header")),
        *(account(5, 4, gated=2, dropped={"queue": 3, "fps": 1}, failed=1, observed_s=59.5), said(6, ENDED)),
        is_built=is_built,
    )
    assert (entry.source, entry.session, entry.day, entry.state) == ("cam-1", "b3f0", DAY, SessionState.CLOSED)
    assert (entry.received, entry.announced, entry.in_ledger, entry.dead_letters) == (11, 4, 4, 2)
    assert (entry.gated, entry.dropped, entry.failed, entry.observed_s) == (2, {"fps": 1, "queue": 3}, 1, 59.5)
    assert (entry.duplicates, entry.open, entry.unaccounted, entry.difference) == (0, 0, 0, 0)
    assert entry.balances


def test_a_killed_session_leaves_an_open_interval(memory, is_built):
    killed, later = books_of(
        memory,
        *(said(0, STARTED), shot(1), account(2, 1), shot(3), shot(4)),
        *(said(5, STARTED, session="two"), shot(6, session="two"), account(7, 1, session="two")),
        said(8, ENDED, session="two"),
        is_built=is_built,
    )
    assert (killed.state, killed.announced, killed.in_ledger, killed.open, killed.difference) == ("open", 1, 3, 2, 0)
    assert (later.state, later.announced, later.in_ledger, later.open, later.difference) == ("closed", 1, 1, 0, 0)


def test_records_after_the_last_account_of_an_open_session_do_not_replace_lost_ones(memory, is_built):
    (entry,) = books_of(
        memory,
        *(said(0, STARTED), shot(1), account(2, 3), shot(3), buried(4, "attributes"), shot(5)),
        is_built=is_built,
    )
    assert (entry.state, entry.announced, entry.in_ledger) == ("open", 3, 4)
    assert (entry.open, entry.difference, entry.balances) == (3, 2, False)


def test_frames_that_an_open_session_announced_again_are_counted_before_and_after_its_last_account(memory):
    again = [replace(shot(offset, session="two"), frame_id=shot(of).frame_id) for offset, of in ((6, 1), (8, 2))]
    _, entry = books_of(
        memory,
        *(said(0, STARTED), shot(1), shot(2), account(3, 2), said(4, ENDED), said(5, STARTED, session="two")),
        *(again[0], account(7, 2, session="two"), again[1]),
    )
    assert (entry.announced, entry.in_ledger, entry.duplicates, entry.open, entry.difference) == (2, 2, 2, 1, 1)


def test_frames_announced_again_by_a_later_session_are_its_duplicates(memory, is_built):
    again = [replace(shot(offset, session="two"), frame_id=shot(of).frame_id) for offset, of in ((5, 1), (6, 2))]
    first, second = books_of(
        memory,
        *(said(0, STARTED), shot(1), shot(2), account(3, 2), said(4, ENDED)),
        *(*again, shot(7, session="two"), account(8, 3, session="two"), said(9, ENDED, session="two")),
        is_built=is_built,
    )
    assert (first.in_ledger, first.duplicates, first.difference) == (2, 0, 0)
    assert (second.in_ledger, second.duplicates, second.difference) == (3, 2, 0)


def test_a_record_that_kafka_stored_twice_is_a_duplicate(memory):
    twice = replace(shot(2), frame_id=shot(1).frame_id)
    (entry,) = books_of(memory, said(0, STARTED), shot(1), twice, account(3, 1), said(4, ENDED))
    assert (entry.announced, entry.in_ledger, entry.duplicates, entry.difference) == (1, 1, 0, 0)
    assert run_audit(memory, log_range(5)).ok


@pytest.mark.parametrize("announced", [1, 4], ids=["too-few", "too-many"])
def test_books_and_audit_find_the_same_difference(memory, is_built, announced):
    (entry,) = books_of(
        memory, said(0, STARTED), shot(1), shot(2), account(3, announced), said(4, ENDED), is_built=is_built
    )
    assert (entry.difference, entry.balances) == (announced - 2, False)
    (problem,) = run_audit(memory, log_range(5)).problems
    assert "cam-1, session b3f0" in problem


def test_a_session_over_midnight_balances_on_each_day(memory, is_built):
    before, after = books_of(
        memory,
        *(said(0, STARTED), shot(1), shot(2, day=NEXT), buried(3, "attributes", day=NEXT)),
        *(account(4, 1), account(5, 2, day=NEXT), said(6, ENDED, day=NEXT)),
        is_built=is_built,
    )
    assert [(e.day, e.announced, e.in_ledger, e.difference) for e in (before, after)] == [
        (DAY, 1, 1, 0),
        (NEXT, 2, 2, 0),
    ]


def test_one_day_of_a_query_session_has_the_books_of_that_day(memory, is_built):
    entries = books_of(
        memory,
        *(said(0, STARTED), shot(1), buried(2, "attributes"), account(3, 2), shot(4), shot(5, day=NEXT)),
        *(said(6, ENDED), shot(7, session="two", source="yard")),
        is_built=is_built,
    )
    assert {entry.day for entry in entries} == {DAY, NEXT}
    with open_lake(memory, settings=Settings()) as lake:
        for day in (DAY, NEXT, NEXT + timedelta(days=1)):
            assert list(books_of_session(memory, lake, day)) == [one for one in entries if one.day == day]
        of_source = books_of_session(memory, lake, DAY, "yard")
    assert [one.source for one in of_source] == [one.source for one in entries if one.source == "yard"]


def test_records_without_a_session_have_their_own_entry(memory, is_built):
    found = books_of(memory, shot(0, session=None), buried(1, "nothing", source="cam-2"), is_built=is_built)
    assert [(e.source, e.session, e.state, e.received, e.in_ledger, e.difference) for e in found] == [
        ("cam-1", None, None, None, 1, 0),
        ("cam-2", None, None, None, 1, 0),
    ]


def test_a_dead_letter_that_names_another_session_than_the_last_notice_is_found_in_the_ledger(memory):
    one, two = books_of(
        memory,
        *(said(0, STARTED), said(1, STARTED, session="two"), buried(2, "attributes"), shot(3, session="two")),
        *(account(4, 1), said(5, ENDED), account(6, 1, session="two"), said(7, ENDED, session="two")),
    )
    assert [(e.session, e.in_ledger, e.difference) for e in (one, two)] == [("b3f0", 1, 0), ("two", 1, 0)]


def test_books_of_one_source_and_day_as_a_table(tmp_path):
    settings = Settings(store_url=tmp_path.as_uri())
    lake = Lake.open(settings)
    write_chain(
        open_store(settings),
        [said(0, STARTED), shot(1), account(2, 1), shot(3, source="cam-2"), shot(4, day=NEXT)],
    )
    table = lake.books(DAY, source="cam-1")
    assert list(table["in_ledger"]) == [1]
    assert list(table.columns) == books_table([]).column_names
    assert len(lake.books()) == 3


def test_a_session_over_two_chains_has_one_balance(memory, is_built):
    write_chain(memory, [replace(shot(0), partition=1), buried(1, "attributes")], chain=replace(CHAIN, partition=1))
    (entry,) = books_of(memory, said(0, STARTED), shot(1), account(2, 3), said(3, ENDED), is_built=is_built)
    assert (entry.announced, entry.in_ledger, entry.dead_letters, entry.difference) == (3, 3, 1, 0)
    assert entry.state is SessionState.CLOSED


def test_frames_that_detection_has_not_reached_count_as_waiting(memory, is_built):
    notices = replace(CHAIN, topic=f"{CHAIN.topic}-notices")
    logs = log_range(3), log_range(3, chain=notices)
    told = replace(account(1, 3), attributes={ANNOUNCED_BEFORE: {f"{CHAIN.topic}/{CHAIN.partition}": 3}})
    write_chain(memory, [said(0, STARTED), told, said(2, ENDED)], chain=notices)
    frames = write_chain(memory, [shot(0)])
    if is_built:
        rebuild_day(memory, DAY, now=NOON)
    (entry,) = read_books(memory, Settings())
    assert (entry.announced, entry.in_ledger, entry.waiting, entry.difference) == (3, 1, 2, 0)
    assert run_audit(memory, *logs).ok
    append(frames, [shot(1)])
    assert run_audit(memory, *logs).ok
    append(frames, [shot(2, session="two")])
    (entry, _) = read_books(memory, Settings())
    assert (entry.in_ledger, entry.waiting, entry.difference) == (2, 0, 1)
    (problem,) = run_audit(memory, *logs).problems
    assert "announce 3 frames, the ledger holds 2" in problem


def test_frames_after_the_offset_that_an_account_names_are_open(memory, is_built):
    notices = replace(CHAIN, topic=f"{CHAIN.topic}-notices")
    told = replace(account(1, 2), attributes={ANNOUNCED_BEFORE: {f"{CHAIN.topic}/{CHAIN.partition}": 2}})
    write_chain(memory, [said(0, STARTED), told], chain=notices)
    (entry,) = books_of(memory, shot(0), shot(1, source="cam-2", session=None), shot(2), shot(3), is_built=is_built)[:1]
    assert (entry.announced, entry.in_ledger, entry.open, entry.waiting, entry.difference) == (2, 3, 2, 0, 1)
