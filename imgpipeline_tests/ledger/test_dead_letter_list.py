"""The stored list of dead letters equals a read of the whole ledger, and an update reads only new segments."""

from datetime import timedelta
from threading import Barrier, Thread

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.contracts.keys import RAW_RECORDS, ChainId, follower_key, segment_key
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.chain import close_chain
from imgpipeline.ledger.dead_letters import (
    BuriedRecord,
    DeadLetterList,
    LetterState,
    Wanted,
    find_dead_letters,
    fix_ends_by_list,
    put_raw_records,
    read_raw_record,
    remove_orphans,
)
from imgpipeline.ledger.repair.repair_list import close_repair, open_repair
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.examples import examples
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, append, frame, gap, rejected, write_chain, writer
from imgpipeline_tests.ledger.test_dead_letters import good, letter
from imgpipeline_tests.ledger.test_follow import NotingStore, repair_chain

LIST = follower_key("dead_letters")
SECOND = ChainId(CHAIN.topic, CHAIN.topic_id, 1)


def listed(store: ObjectStore, wanted: Wanted | None = None) -> list[BuriedRecord]:
    return find_dead_letters(store, wanted or Wanted())[0]


def offsets(store: ObjectStore) -> list[int]:
    return sorted(buried.letter.offset for buried in listed(store))


def test_a_second_listing_reads_only_new_segments() -> None:
    store = NotingStore()
    made = write_chain(store, *([letter(n)] for n in range(20)))
    assert offsets(store) == list(range(20))
    append(made, [good(20, "frames/0/3")])
    store.read.clear()
    assert [b.letter.offset for b in listed(store) if b.state is LetterState.RESOLVED] == [3]
    assert {key for key in store.read if key.startswith("metadata/")} == {
        segment_key(CHAIN, 19),  # the one before the checkpoint: is this still the same ledger?
        segment_key(CHAIN, 20),
    }
    store.read.clear()
    assert len(listed(store, Wanted(day=DAY))) == 20
    assert store.read == [LIST], "the chain ends with the segment that it ended with before"


def test_ends_that_were_fixed_before_are_not_searched_for_again() -> None:
    store = NotingStore()
    write_chain(store, *([letter(n)] for n in range(20)))
    ends = fix_ends_by_list(store)
    append(writer(store), [letter(20)])
    store.read.clear()
    assert len(find_dead_letters(store, Wanted(), ends=ends)[0]) == 20
    assert segment_key(CHAIN, 20) not in store.read
    assert fix_ends_by_list(store)[CHAIN].offset == 21


def test_the_outcome_of_a_repair_replaces_a_dead_letter(memory: ObjectStore) -> None:
    write_chain(memory, [letter(0)], [letter(1)], [good(2, "frames/0/0")], [letter(3)])
    assert offsets(memory) == [0, 1, 3]
    for start in (1, 2):
        memory.put(segment_key(CHAIN, start), b"damaged")
    repair_chain(memory, CHAIN)
    assert offsets(memory) == [0, 3]
    assert {b.state for b in listed(memory)} == {LetterState.OPEN}


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", zstandard.compress(b'{"version": 99}')], ids=["lost", "empty", "no zstd", "newer"]
)
def test_an_unreadable_list_is_rebuilt(memory: ObjectStore, content: bytes | None) -> None:
    write_chain(memory, [letter(0)], [letter(1)])
    listed(memory)
    if content is None:
        memory.delete(LIST)
    else:
        memory.put(LIST, content)
    assert offsets(memory) == [0, 1]
    assert memory.head(LIST) is not None


def test_a_new_ledger_has_no_dead_letters_of_the_old_one(memory: ObjectStore) -> None:
    write_chain(memory, [letter(0)], [letter(1)])
    listed(memory)
    for info in list(memory.list_objects("metadata")):
        memory.delete(info.key)
    write_chain(memory, [frame(0)], [letter(1)], [frame(2)])
    assert offsets(memory) == [1]


def test_what_was_read_before_a_damaged_segment_is_kept() -> None:
    store = NotingStore()
    write_chain(store, *([letter(n)] for n in range(5)))
    store.put(segment_key(CHAIN, 3), b"damaged")
    for _ in range(2):
        store.read.clear()
        with pytest.raises(LedgerError, match="00000000000000000003"):
            listed(store)
    assert segment_key(CHAIN, 0) not in store.read
    repair_chain(store, CHAIN)
    assert offsets(store) == [0, 1, 2, 4]


def test_concurrent_listings_both_succeed_and_never_move_the_list_back(store: ObjectStore) -> None:
    write_chain(store, *([letter(n)] for n in range(5)))
    answers: list[list[int]] = []
    together = Barrier(4)

    def look() -> None:
        together.wait()
        answers.append(offsets(store))

    threads = [Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [list(range(5))] * 4
    stored = DeadLetterList.from_json(zstandard.decompress(store.get(LIST)))
    assert stored.checkpoint.ends == {CHAIN: 5}


def raw_offsets(store: ObjectStore) -> list[int]:
    return sorted(int(info.key.rpartition("/")[2][:20]) for info in store.list_objects(RAW_RECORDS))


def test_a_record_without_a_dead_letter_is_removed(memory: ObjectStore) -> None:
    """A run stored it and died; the next one found the image."""
    put_raw_records(memory, CHAIN, [letter(1)])
    write_chain(memory, [letter(0), frame(1), letter(2)])
    assert raw_offsets(memory) == [0, 1, 2]
    assert [remove_orphans(memory) for _ in range(2)] == [1, 0]
    assert raw_offsets(memory) == [0, 2]


def test_another_record_of_the_same_offset_is_removed(memory: ObjectStore) -> None:
    put_raw_records(memory, CHAIN, [rejected(letter(0), b"of a log that was replaced")])
    write_chain(memory, [letter(0)])
    assert remove_orphans(memory) == 1
    assert read_raw_record(memory, CHAIN, letter(0)) == letter(0).raw


def test_a_record_stays_while_a_run_may_be_about_to_put_its_segment(memory: ObjectStore) -> None:
    made = write_chain(memory, [letter(0)])
    put_raw_records(memory, CHAIN, [letter(1)])
    put_raw_records(memory, SECOND, [letter(0)])
    assert remove_orphans(memory) == 0
    append(made, [letter(1)])
    assert read_raw_record(memory, CHAIN, letter(1)) == letter(1).raw


def test_no_segment_can_follow_in_a_closed_chain(memory: ObjectStore) -> None:
    put_raw_records(memory, CHAIN, [letter(5)])
    made = write_chain(memory, [letter(0)])
    assert close_chain(memory, made.end, run_id="run", created_at=NOON)
    assert remove_orphans(memory) == 1
    assert raw_offsets(memory) == [0]


@pytest.mark.parametrize("is_gone", [False, True], ids=["damaged", "gone"])
@pytest.mark.parametrize("is_listed", [False, True], ids=["first look", "listed"])
def test_a_record_stays_while_a_repair_is_about_to_put_its_segment(
    memory: ObjectStore, is_gone: bool, is_listed: bool
) -> None:
    write_chain(memory, [letter(0)], [frame(1)], [letter(2)])
    if is_listed:
        listed(memory)
    (memory.delete if is_gone else lambda key: memory.put(key, b"damaged"))(segment_key(CHAIN, 1))
    opened = open_repair(memory, CHAIN, 1, 2, [])
    put_raw_records(memory, CHAIN, [letter(1)])
    with pytest.raises(LedgerError):
        remove_orphans(memory)
    assert raw_offsets(memory) == [0, 1, 2]
    close_repair(memory, opened)


def test_a_store_without_dead_letters_costs_one_listing() -> None:
    store = NotingStore()
    write_chain(store, [frame(0)])
    store.read.clear()
    assert (remove_orphans(store), store.read) == (0, [])


steps = st.lists(
    st.tuples(st.sampled_from([CHAIN, SECOND]), st.sampled_from(["letter", "frame", "replay", "bad replay", "gap"]),
              st.integers(0, 6), st.booleans()), max_size=20)  # fmt: skip


@settings(max_examples=examples(50))
@given(steps=steps)
def test_following_in_steps_gives_the_same_list_as_one_pass(steps: list[tuple[ChainId, str, int, bool]]) -> None:
    store, whole = open_memory_store(), open_memory_store()
    for chain, kind, of, is_listed in steps:
        start = writer(store, chain).end.offset
        replay_of = f"frames/{of % 2}/{of}"
        made: dict[str, Outcome] = {
            "letter": letter(start),
            "frame": frame(start, DAY + timedelta(days=of)),
            "replay": good(start, replay_of, chain=chain),
            "bad replay": letter(start, replay_of),
            "gap": gap(start, start + 1),
        }
        append(writer(store, chain), [made[kind]])
        append(writer(whole, chain), [made[kind]])
        if is_listed:
            listed(store)
    assert listed(store) == listed(whole)
