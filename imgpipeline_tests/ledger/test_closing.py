"""A chain whose log is gone is closed once, even if others write meanwhile; its log continues in the next chain."""

import threading
from collections.abc import Iterator

import pytest

from imgpipeline.contracts.keys import ChainId, next_chain, parse_segment_key, segment_key
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.errors import ConfigurationError, LedgerError
from imgpipeline.ledger import close_chain, current_chain, find_current_end, find_end, fix_ends, read_day
from imgpipeline.ledger.audit import audit_chain, fix_end
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    NOON,
    append,
    check_ledger,
    frames,
    stored_segments,
    write_chain,
    writer,
)

SECOND = next_chain(CHAIN)


def close(store: ObjectStore) -> bool:
    return close_chain(store, find_current_end(store, CHAIN), run_id="closing", created_at=NOON)


def test_the_next_chain_is_numbered_and_has_separate_keys():
    assert (SECOND.topic_id, next_chain(SECOND).topic_id) == (f"{CHAIN.topic_id}~2", f"{CHAIN.topic_id}~3")
    assert next_chain(ChainId("t", "i~9", 4)) == ChainId("t", "i~10", 4)
    assert parse_segment_key(segment_key(SECOND, 7)) == (SECOND, 7)
    for wrong in ("i~1", "i~", "i~02", "~2", "i~2~2", "i~x"):
        with pytest.raises(ConfigurationError):
            ChainId("t", wrong, 0)


def test_a_closed_chain_keeps_its_outcomes_and_its_log_starts_the_next_one_at_0(store: ObjectStore):
    write_chain(store, frames(0, 3), frames(3, 5))
    before = {info.key: info.e_tag for info in store.list_objects()}

    assert close(store)

    end = find_current_end(store, CHAIN)
    assert (end.chain, end.offset, end.header) == (SECOND, 0, None)
    assert before.items() <= {info.key: info.e_tag for info in store.list_objects()}.items()
    assert stored_segments(store)[-1].outcomes() == [Gap(5, 6, GapReason.CLOSED)]
    assert append(writer(store, SECOND), frames(0, 4))
    assert (check_ledger(store), check_ledger(store, SECOND)) == (6, 4)
    assert find_current_end(store, CHAIN, hint=0).offset == 4
    assert {chain: end.offset for chain, end in fix_ends(store).items()} == {CHAIN: 6, SECOND: 4}
    ends = {chain: end.offset for chain, end in fix_ends(store).items()}
    assert sum(segment.header.frames for segment in read_day(store, DAY, ends)) == 9
    found = audit_chain(store, fix_end(store, CHAIN))
    assert (found.ok, found.frames, found.gaps) == (True, 5, {"closed": 1})


def test_a_run_that_has_not_seen_the_closing_drops_its_work(store: ObjectStore):
    stale = write_chain(store, frames(0, 5))
    assert close(store)
    assert not append(stale, frames(5, 9))
    assert not append(stale, frames(5, 9))
    assert check_ledger(store) == 6


def test_a_chain_that_has_grown_is_not_closed_at_its_old_end(store: ObjectStore):
    run = write_chain(store, frames(0, 5))
    seen = find_end(store, CHAIN)
    assert append(run, frames(5, 7))
    assert not close_chain(store, seen, run_id="closing", created_at=NOON)
    assert (find_current_end(store, CHAIN).chain, check_ledger(store)) == (CHAIN, 7)


def test_nothing_is_written_after_the_end_of_a_closed_chain(store: ObjectStore):
    write_chain(store, frames(0, 5))
    assert close(store)
    with pytest.raises(LedgerError, match="is closed at 6"):
        append(writer(store), frames(6, 7))
    with pytest.raises(LedgerError, match="is closed at 6"):
        close_chain(store, find_end(store, CHAIN), run_id="closing", created_at=NOON)


def test_a_chain_without_outcomes_is_not_closed(store: ObjectStore):
    with pytest.raises(LedgerError, match="no segment"):
        close(store)
    write_chain(store, frames(0, 5))
    assert close(store)
    with pytest.raises(LedgerError, match="no segment"):
        close(store)


@pytest.mark.medium
def test_of_closings_and_runs_at_one_end_exactly_one_wins(store: ObjectStore):
    for _ in range(20):
        current = find_current_end(store, CHAIN)
        if current.header is None:
            write_chain(store, frames(0, 2), chain=current.chain)
        seen = find_current_end(store, CHAIN)
        won = list(_race(store, seen.chain, 3))
        assert sum(won) == 1
        closed = find_end(store, seen.chain)
        assert (closed.is_closed, closed.offset - seen.offset) in {(True, 1), (False, 4)}
        check_ledger(store, seen.chain)


def _race(store: ObjectStore, chain: ChainId, of_each: int) -> Iterator[bool]:
    """Yields whether each of several runs and closings has won that start from one end."""
    end = find_end(store, chain)
    start = threading.Barrier(2 * of_each)
    won: list[bool] = []

    def run() -> None:
        own = writer(store, chain)
        start.wait()
        won.append(append(own, frames(end.offset, end.offset + 4)))

    def closing() -> None:
        start.wait()
        won.append(close_chain(store, end, run_id="closing", created_at=NOON))

    threads = [threading.Thread(target=work) for work in (run, closing) for _ in range(of_each)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    yield from won


def test_the_current_chain_is_the_first_that_is_not_closed():
    assert current_chain(CHAIN, ()) == CHAIN
    assert current_chain(CHAIN, {CHAIN}) == SECOND
    assert current_chain(CHAIN, {SECOND}) == CHAIN
    assert current_chain(CHAIN, {CHAIN, SECOND}) == next_chain(SECOND)
