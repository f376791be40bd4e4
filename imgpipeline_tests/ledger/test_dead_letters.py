"""A dead letter is resolved when one of its replays becomes a frame, however many replays failed before.

The stored list equals a read of the whole ledger, and an update reads only new segments.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from hashlib import sha256
from threading import Barrier, Thread

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.contracts.keys import RAW_RECORDS, ChainId, follower_key, segment_key
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Outcome
from imgpipeline.errors import ConfigurationError, DeadLetterCode, LedgerError, TransientError
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.chain import close_chain
from imgpipeline.ledger.dead_letters import (
    BuriedRecord,
    DeadLetterList,
    LetterState,
    Wanted,
    find_dead_letters,
    fix_ends_by_list,
    locate_dead_letter,
    put_raw_records,
    read_raw_record,
    remove_orphans,
)
from imgpipeline.ledger.repair.repair_list import close_repair, open_repair
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.examples import examples
from imgpipeline_tests.ledger.faulty_store import CrashError, FaultyStore
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    NOON,
    append,
    dead_letter,
    frame,
    gap,
    notice,
    rejected,
    stored_segments,
    write_chain,
    writer,
)
from imgpipeline_tests.ledger.test_follow import repair_chain
from imgpipeline_tests.objectstore.noting import NotingStore

LIST = follower_key("dead_letters")
SECOND = ChainId(CHAIN.topic, CHAIN.topic_id, 1)
RECREATED = ChainId(CHAIN.topic, "recreated", 0)
NEXT_DAY = date(2026, 1, 10)


def letter(offset: int, replay_of: str | None = None, **changes: object) -> DeadLetter:
    time = NOON + timedelta(seconds=offset)
    return replace(dead_letter(offset), timestamp=time, replay_of=replay_of, **changes)


def good(offset: int, replay_of: str | None, day: date = DAY, chain: ChainId = CHAIN) -> Frame:
    return replace(frame(offset, day), replay_of=replay_of, partition=chain.partition)


def found(store: ObjectStore, wanted: Wanted | None = None) -> list[BuriedRecord]:
    return find_dead_letters(store, wanted or Wanted())[0]


def said(buried: Sequence[BuriedRecord]) -> dict[str, str]:
    return {str(b.reference): f"{b.state.value} {b.became or ''}".strip() for b in buried}


def sql(store: ObjectStore, tmp_path) -> dict[str, str]:
    with open_lake(store, cache_dir=tmp_path / "cache") as session:
        rows = session.query("SELECT topic, partition, kafka_offset, state, became FROM dead_letters").rows
    return {
        f"{topic}/{partition}/{offset}": f"{state} {became or ''}".strip()
        for topic, partition, offset, state, became in rows
    }


A, B, C = "frames/0/0", "frames/0/1", "frames/0/2"


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([letter(0)], {A: "open"}),
        ([letter(0), good(1, A)], {A: f"resolved {B}"}),
        ([letter(0), replace(notice(1), replay_of=A)], {A: f"resolved {B}"}),
        ([letter(0), letter(1, A)], {A: f"replayed {B}", B: "open"}),
        ([letter(0), letter(1, A), good(2, B)], {A: f"resolved {C}", B: f"resolved {C}"}),
        ([letter(0), letter(1, A), good(2, A)], {A: f"resolved {C}", B: f"resolved {C}"}),
        ([letter(0), good(1, A), letter(2, A)], {A: f"resolved {B}", C: f"resolved {B}"}),
        ([letter(0), letter(1), good(2, A)], {A: f"resolved {C}", B: "open"}),
        ([letter(0), good(1, "others/0/0")], {A: "open"}),
        ([letter(0), good(1, f"{A}@another-id")], {A: "open"}),
        ([letter(0, A)], {A: "open"}),
        ([letter(0, B), letter(1, A)], {A: f"replayed {B}", B: "open"}),
    ],
)
def test_the_list_and_sql_give_the_same_states(memory, tmp_path, outcomes, expected):
    write_chain(memory, *[[outcome] for outcome in outcomes])
    assert said(found(memory)) == expected
    assert sql(memory, tmp_path) == expected


def test_a_replay_may_land_in_any_partition(memory):
    write_chain(memory, [letter(0), letter(1)])
    write_chain(memory, [good(0, B, chain=SECOND)], chain=SECOND)
    assert said(found(memory)) == {A: "open", B: "resolved frames/1/0"}


def test_a_recreated_topic_does_not_settle_dead_letters_of_the_old_one(memory):
    write_chain(memory, [letter(0)])
    write_chain(memory, [letter(0), good(1, A)], chain=RECREATED)
    states = {b.reference.chain.topic_id: b.state for b in found(memory)}
    assert states == {CHAIN.topic_id: LetterState.OPEN, "recreated": LetterState.RESOLVED}


def test_a_replay_in_the_recreated_topic_can_mean_the_old_one(memory):
    write_chain(memory, [letter(0)])
    write_chain(memory, [letter(0), good(1, f"{A}@{CHAIN.topic_id}")], chain=RECREATED)
    states = {b.reference.chain.topic_id: b.state for b in found(memory)}
    assert states == {CHAIN.topic_id: LetterState.RESOLVED, "recreated": LetterState.OPEN}


def test_of_one_day_only_a_replay_that_belongs_to_another_day_is_seen_too(memory):
    write_chain(memory, [letter(0)], [good(1, A, NEXT_DAY)])
    assert said(found(memory, Wanted(day=DAY))) == {A: f"resolved {B}"}


def test_dead_letters_are_found_by_code_day_and_source_the_latest_first(memory):
    moved = letter(2, source="yard", day=NEXT_DAY)
    write_chain(memory, [letter(0), letter(1, code=DeadLetterCode.EMPTY_OBJECT), moved])
    offsets = {
        wanted: [b.letter.offset for b in found(memory, wanted)]
        for wanted in (Wanted(), Wanted(code=DeadLetterCode.EMPTY_OBJECT), Wanted(day=NEXT_DAY), Wanted(source="cam-1"))
    }
    assert list(offsets.values()) == [[2, 1, 0], [1], [2], [1, 0]]


def test_records_are_read_on_request(memory):
    others = rejected(letter(1), b"other", b"key", (("trace", b"\xff"),))
    write_chain(memory, [letter(0), others])
    listed = found(memory)
    assert {b.letter.raw for b in listed} == {None}
    assert [read_raw_record(memory, CHAIN, b.letter) for b in listed] == [others.raw, letter(0).raw]


def test_a_record_is_an_object_of_its_own_and_no_part_of_the_segment(memory):
    write_chain(memory, [rejected(letter(0), b"a secret"), frame(1), rejected(letter(2), b"another")])
    keys = [info.key for info in memory.list_objects(RAW_RECORDS)]
    digests = [sha256(value).hexdigest() for value in (b"a secret", b"another")]
    folder = f"metadata_raw_records/{CHAIN.topic}/{CHAIN.topic_id}/00000"
    assert sorted(keys) == [
        f"{folder}/{offset:020d}.{digest}.json" for offset, digest in zip((0, 2), digests, strict=True)
    ]
    [segment] = stored_segments(memory)
    assert not any(word in segment.body for word in (b"secret", b64encode(b"a secret")))


@pytest.mark.parametrize(("fault", "segments"), [("crash before", 0), ("crash after", 1)])
def test_records_are_stored_before_their_segment(fault, segments):
    store = FaultyStore()
    store.faults = {"segment": [fault]}
    with pytest.raises(CrashError):
        write_chain(store, [letter(0), letter(1)])
    assert len(list(store.list_objects(RAW_RECORDS))) == 2
    assert len(stored_segments(store)) == segments


def test_without_the_record_there_is_no_segment():
    store = FaultyStore()
    store.faults = {"raw record": ["none", "not stored"]}
    with pytest.raises(TransientError):
        write_chain(store, [letter(0), letter(1)])
    assert stored_segments(store) == []


def test_many_records_are_stored_at_the_same_time():
    """Sixteen requests wait for each other; one after the other they would never end."""

    class WaitingStore(FaultyStore):
        together = Barrier(16, timeout=20)

        def create(self, key: str, data: bytes | memoryview) -> bool:
            if key.startswith(RAW_RECORDS):
                self.together.wait()
            return super().create(key, data)

    store = WaitingStore()
    write_chain(store, [letter(offset) for offset in range(32)])
    assert len(list(store.list_objects(RAW_RECORDS))) == 32


def test_a_repeated_put_leaves_the_first_object(memory):
    put_raw_records(memory, CHAIN, [letter(0), frame(1)])
    [before] = memory.list_objects(RAW_RECORDS)
    put_raw_records(memory, CHAIN, [letter(0), frame(1)])
    assert list(memory.list_objects(RAW_RECORDS)) == [before]


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"[]", b'{"raw_base64": "AA==", "key_base64": null, "headers": []}', None]
)
def test_a_record_that_was_removed_or_damaged_is_none(memory, damage):
    write_chain(memory, [letter(0)])
    [info] = memory.list_objects(RAW_RECORDS)
    memory.delete(info.key)
    if damage is not None:
        memory.put(info.key, damage)
    assert read_raw_record(memory, CHAIN, letter(0)) is None
    assert [b.letter for b in found(memory)] == [letter(0)], "the outcome stays"


def test_a_dead_letter_is_located_by_its_name(memory):
    write_chain(memory, [frame(0), letter(1)], [letter(2)])
    assert locate_dead_letter(memory, "frames", None, 0, 1).header.start == 0
    assert locate_dead_letter(memory, "frames", CHAIN.topic_id, 0, 2).header.start == 2
    for missing in [("frames", None, 0, 0), ("frames", None, 0, 3), ("frames", "other", 0, 1), ("none", None, 0, 1)]:
        with pytest.raises(ConfigurationError, match="not a dead letter"):
            locate_dead_letter(memory, *missing)
    write_chain(memory, [letter(0), letter(1)], chain=RECREATED)
    with pytest.raises(ConfigurationError, match="2 incarnations") as caught:
        locate_dead_letter(memory, "frames", None, 0, 1)
    assert "frames/0/1@recreated" in str(caught.value)


def listed(store: ObjectStore, wanted: Wanted | None = None) -> list[BuriedRecord]:
    return find_dead_letters(store, wanted or Wanted())[0]


def offsets(store: ObjectStore) -> list[int]:
    return sorted(buried.letter.offset for buried in listed(store))


def test_a_second_listing_reads_only_new_segments():
    store = NotingStore()
    made = write_chain(store, *([letter(n)] for n in range(20)))
    assert offsets(store) == list(range(20))
    append(made, [good(20, "frames/0/3")])
    store.fetched.clear()
    assert [b.letter.offset for b in listed(store) if b.state is LetterState.RESOLVED] == [3]
    assert {key for key in store.fetched if key.startswith("metadata/")} == {
        segment_key(CHAIN, 19),  # the one before the checkpoint: is this still the same ledger?
        segment_key(CHAIN, 20),
    }
    store.fetched.clear()
    assert len(listed(store, Wanted(day=DAY))) == 20
    assert store.fetched == [LIST], "the chain ends with the segment that it ended with before"


def test_ends_that_were_fixed_before_are_not_searched_for_again():
    store = NotingStore()
    write_chain(store, *([letter(n)] for n in range(20)))
    ends = fix_ends_by_list(store)
    append(writer(store), [letter(20)])
    store.fetched.clear()
    assert len(find_dead_letters(store, Wanted(), ends=ends)[0]) == 20
    assert segment_key(CHAIN, 20) not in store.fetched
    assert fix_ends_by_list(store)[CHAIN].offset == 21


def test_the_outcome_of_a_repair_replaces_a_dead_letter(memory):
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
def test_an_unreadable_list_is_rebuilt(memory, content):
    write_chain(memory, [letter(0)], [letter(1)])
    listed(memory)
    if content is None:
        memory.delete(LIST)
    else:
        memory.put(LIST, content)
    assert offsets(memory) == [0, 1]
    assert memory.head(LIST) is not None


def test_a_new_ledger_has_no_dead_letters_of_the_old_one(memory):
    write_chain(memory, [letter(0)], [letter(1)])
    listed(memory)
    for info in list(memory.list_objects("metadata")):
        memory.delete(info.key)
    write_chain(memory, [frame(0)], [letter(1)], [frame(2)])
    assert offsets(memory) == [1]


def test_what_was_read_before_a_damaged_segment_is_kept():
    store = NotingStore()
    write_chain(store, *([letter(n)] for n in range(5)))
    store.put(segment_key(CHAIN, 3), b"damaged")
    for _ in range(2):
        store.fetched.clear()
        with pytest.raises(LedgerError, match="00000000000000000003"):
            listed(store)
    assert segment_key(CHAIN, 0) not in store.fetched
    repair_chain(store, CHAIN)
    assert offsets(store) == [0, 1, 2, 4]


def test_concurrent_listings_both_succeed_and_never_move_the_list_back(store):
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


def test_a_record_without_a_dead_letter_is_removed(memory):
    """A run stored it and died; the next one found the image."""
    put_raw_records(memory, CHAIN, [letter(1)])
    write_chain(memory, [letter(0), frame(1), letter(2)])
    assert raw_offsets(memory) == [0, 1, 2]
    assert [remove_orphans(memory) for _ in range(2)] == [1, 0]
    assert raw_offsets(memory) == [0, 2]


def test_another_record_of_the_same_offset_is_removed(memory):
    put_raw_records(memory, CHAIN, [rejected(letter(0), b"of a log that was replaced")])
    write_chain(memory, [letter(0)])
    assert remove_orphans(memory) == 1
    assert read_raw_record(memory, CHAIN, letter(0)) == letter(0).raw


def test_a_record_stays_while_a_run_may_be_about_to_put_its_segment(memory):
    made = write_chain(memory, [letter(0)])
    put_raw_records(memory, CHAIN, [letter(1)])
    put_raw_records(memory, SECOND, [letter(0)])
    assert remove_orphans(memory) == 0
    append(made, [letter(1)])
    assert read_raw_record(memory, CHAIN, letter(1)) == letter(1).raw


def test_no_segment_can_follow_in_a_closed_chain(memory):
    put_raw_records(memory, CHAIN, [letter(5)])
    made = write_chain(memory, [letter(0)])
    assert close_chain(memory, made.end, run_id="run", created_at=NOON)
    assert remove_orphans(memory) == 1
    assert raw_offsets(memory) == [0]


@pytest.mark.parametrize("is_gone", [False, True], ids=["damaged", "gone"])
@pytest.mark.parametrize("is_listed", [False, True], ids=["first look", "listed"])
def test_a_record_stays_while_a_repair_is_about_to_put_its_segment(memory, is_gone, is_listed):
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


def test_a_store_without_dead_letters_costs_one_listing():
    store = NotingStore()
    write_chain(store, [frame(0)])
    store.fetched.clear()
    assert (remove_orphans(store), store.fetched) == (0, [])


steps = st.lists(
    st.tuples(st.sampled_from([CHAIN, SECOND]), st.sampled_from(["letter", "frame", "replay", "bad replay", "gap"]),
              st.integers(0, 6), st.booleans()), max_size=20)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=examples(50))
@given(steps=steps)
def test_following_in_steps_gives_the_same_list_as_one_pass(steps):
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
