"""A follower's object is saved only over the version that was loaded or saved before, never over another process's."""

import pytest

from imgpipeline.contracts.keys import follower_key
from imgpipeline.ledger.checkpoint import FollowerObject
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.faulty_store import FaultyStore

KEY = follower_key("counts")
LARGEST = 100


def opened(store: ObjectStore) -> FollowerObject:
    return FollowerObject(store, "counts", LARGEST)


def test_what_was_saved_is_loaded(store):
    first = opened(store)
    assert first.load(int) is None
    assert first.save(b"1")
    assert opened(store).load(int) == 1


def test_a_process_saves_its_object_repeatedly(store):
    ours = opened(store)
    assert [ours.save(text) for text in (b"1", b"2", b"2", b"3")] == [True] * 4
    assert opened(store).load(int) == 3


def test_a_save_whose_answer_was_lost_is_no_loss():
    store = FaultyStore()
    store.faults["table"] = ["lost against itself", "lost against itself"]
    ours = opened(store)
    assert [ours.save(text) for text in (b"1", b"2", b"3")] == [True] * 3
    assert opened(store).load(int) == 3


@pytest.mark.parametrize("is_new", [True, False], ids=["first", "later"])
def test_of_two_processes_the_faster_one_wins(store, is_new):
    if not is_new:
        opened(store).save(b"1")
    slow, fast = opened(store), opened(store)
    assert slow.load(int) == fast.load(int)
    assert fast.save(b"2")
    assert not slow.save(b"3")
    assert not slow.save(b"4")
    assert opened(store).load(int) == 2


def test_an_object_that_was_saved_by_another_process_after_ours_stays(store):
    ours, other = opened(store), opened(store)
    ours.save(b"1")
    other.load(int)
    other.save(b"2")
    assert not ours.save(b"3")
    assert opened(store).load(int) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"\x28\xb5\x2f\xfd"], ids=["emptied", "text", "cut"])
def test_a_damaged_object_counts_as_missing_and_is_replaced(store, damage):
    store.put(KEY, damage)
    ours = opened(store)
    assert ours.load(int) is None
    assert ours.save(b"1")
    assert opened(store).load(int) == 1


def test_a_text_that_cannot_be_parsed_or_is_too_large_counts_as_damaged(store):
    opened(store).save(b"one")
    assert opened(store).load(int) is None
    large = opened(store)
    large.load(bytes)
    large.save(b"1" * (LARGEST + 1))
    assert opened(store).load(bytes) is None
