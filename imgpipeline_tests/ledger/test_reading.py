"""The end of a chain is found with few requests and any hint, and segments are read in the order of their offsets."""

import threading
from collections.abc import Iterable
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from imgpipeline.contracts.keys import ChainId, chain_prefix, segment_key
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.errors import LedgerError
from imgpipeline.ledger import reading
from imgpipeline.ledger.reading import (
    find_end,
    find_last,
    fix_ends,
    last_segment_before,
    list_chains,
    list_segments,
    read_segment,
    read_segments,
    segments_holding,
)
from imgpipeline.objectstore import ObjectMissingError, ObjectStore, open_store
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.examples import examples
from imgpipeline_tests.ledger.samples import CHAIN, append, frame, frames, gap, write_chain, writer
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy
from imgpipeline_tests.objectstore.noting import MeetingStore
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.waiting import wait_until

STARTS = [0, 99_990, 99_995, 100_000, 100_003, 250_000, 250_001]
SEGMENTS = 2_500
LATER = ChainId(CHAIN.topic, CHAIN.topic_id, CHAIN.partition + 1)


def across_borders() -> list[list[Outcome]]:
    """Segments on both sides of two borders between fan-out folders, one folder left out by a gap."""
    return [
        [gap(0, 99_990)],
        frames(99_990, 99_995),
        frames(99_995, 100_000),
        frames(100_000, 100_003),
        [gap(100_003, 250_000)],
        frames(250_000, 250_001),
        frames(250_001, 250_004),
    ]


def test_a_chain_without_a_segment_ends_at_0(store):
    end = find_end(store, CHAIN)
    assert (end.offset, end.header, end.hint) == (0, None, None)
    assert find_end(store, CHAIN, hint=500).offset == 0


def test_the_last_header_gives_the_end_across_folders(store):
    made = writer(store)
    for outcomes in across_borders():
        assert append(made, outcomes)
        found = find_end(store, CHAIN)
        assert found == made.end
        assert found.header is not None
        assert found.header.end == found.offset


@pytest.mark.parametrize("hint", [None, *STARTS, 1, 99_991, 100_001, 250_004, 10**12, -5])
def test_any_hint_gives_the_same_end(hint):
    assert find_end(hinted_store(), CHAIN, hint=hint).offset == 250_004


def hinted_store(cache: list[ObjectStore] = []) -> ObjectStore:  # noqa: B006 - one store for all hints, only read
    from imgpipeline.objectstore.client import open_memory_store  # noqa: PLC0415 - made once, where it is asked for

    if not cache:
        cache.append(open_memory_store())
        write_chain(cache[0], *across_borders())
    return cache[0]


def test_hints_work_on_every_store(store):
    write_chain(store, *across_borders())
    for hint in (0, 99_995, 100_003, 250_001, 7, 10**12):
        assert find_end(store, CHAIN, hint=hint).offset == 250_004


def test_a_hint_whose_segment_was_removed_is_a_wrong_hint(store):
    write_chain(store, frames(0, 2), frames(2, 4), frames(4, 5))
    store.delete(segment_key(CHAIN, 2))
    assert find_end(store, CHAIN, hint=2).offset == 5


def test_the_segment_at_a_known_end_is_read_again_only_if_it_was_replaced(store):
    made = write_chain(store, frames(0, 2), frames(2, 4))
    known = find_end(store, CHAIN).last
    again = find_end(store, CHAIN, known=known)
    assert (again.offset, again.header, again.last) == (4, None, known)

    append(made, frames(4, 5))
    moved = find_end(store, CHAIN, known=known)
    assert (moved.offset, moved.header) == (5, made.end.header)

    store.delete(segment_key(CHAIN, 4))
    store.delete(segment_key(CHAIN, 2))
    append(writer(store), frames(2, 7))
    replaced = find_end(store, CHAIN, known=known)
    assert replaced.offset == 7
    assert replaced.last != known


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_a_last_segment_that_was_damaged_at_a_known_end_is_named(store, damage):
    write_chain(store, frames(0, 2), frames(2, 4))
    known = find_end(store, CHAIN).last
    store.put(segment_key(CHAIN, 2), damage)
    with pytest.raises(LedgerError, match=segment_key(CHAIN, 2)):
        find_end(store, CHAIN, known=known)


def test_stray_objects_among_the_segments_are_ignored(store):
    write_chain(store, frames(0, 2))
    folder = segment_key(CHAIN, 0).rpartition("/")[0]
    for stray in ("zzz.txt", f"{5:020d}.jsonl.zst.tmp", f"{5:020d}", f"{10**6:020d}.jsonl.zst"):
        store.put(f"{folder}/{stray}", b"stray")
    store.put(f"{folder.rpartition('/')[0]}/000000000000009/readme", b"stray")
    store.put(f"{folder.rpartition('/')[0]}/notes/readme", b"stray")
    assert find_end(store, CHAIN).offset == 2
    assert list_segments(store, CHAIN, 0, 10**9) == [0]


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_a_damaged_last_segment_stops_the_search_and_is_named(store, damage):
    write_chain(store, frames(0, 2), frames(2, 4))
    store.put(segment_key(CHAIN, 2), damage)
    with pytest.raises(LedgerError, match=segment_key(CHAIN, 2)):
        find_end(store, CHAIN)


def test_a_segment_with_the_key_of_another_one_is_an_error(memory):
    write_chain(memory, frames(0, 2))
    memory.put(segment_key(CHAIN, 2), memory.get(segment_key(CHAIN, 0)))
    with pytest.raises(LedgerError, match=r"says it is frames/.* \[0, 2\)"):
        find_end(memory, CHAIN)


def test_segments_of_a_range_are_listed_sorted_across_folders(store):
    write_chain(store, *across_borders())
    ranges = [
        (0, 250_004),
        (0, 10**12),
        (1, 100_000),
        (99_995, 100_001),
        (100_004, 250_000),
        (250_001, 250_001),
        (5, 5),
    ]
    for first, behind in ranges:
        assert list_segments(store, CHAIN, first, behind) == [s for s in STARTS if first <= s < behind]


@pytest.mark.parametrize("offset", [0, 1, 99_990, 99_991, 100_000, 100_003, 100_004, 250_000, 250_002, 10**7])
def test_the_segment_before_an_offset_is_found_however_far_away(store, offset):
    write_chain(store, *across_borders())
    found = last_segment_before(store, CHAIN, offset)
    expected = max((start for start in STARTS if start < offset), default=None)
    assert (found.start if found else None) == expected


def test_chains_of_topics_incarnations_and_partitions_are_apart(store):
    chains = [
        ChainId("frames", "id-1", 0),
        ChainId("frames", "id-1", 12),
        ChainId("frames", "id-2", 0),
        ChainId("g", "i", 0),
    ]
    for number, chain in enumerate(reversed(chains)):
        write_chain(store, [gap(0, number + 1)], chain=chain)
    assert list_chains(store) == sorted(chains)
    assert list_chains(store, "frames") == chains[:3]
    assert list_chains(store, "nothing") == []
    ends = fix_ends(store, {chains[0]: 0, chains[1]: 77})
    assert {chain: end.offset for chain, end in ends.items()} == dict(zip(reversed(chains), range(1, 5), strict=True))


def test_the_ends_of_several_chains_are_read_at_the_same_time(memory):
    chains = [replace(CHAIN, partition=number) for number in range(4)]
    for number, chain in enumerate(chains):
        write_chain(memory, [gap(0, number + 1)], chain=chain)
    store = MeetingStore(memory)
    store.meeting = threading.Barrier(len(chains))
    ends = fix_ends(store)
    assert {chain: end.offset for chain, end in ends.items()} == {chain: n + 1 for n, chain in enumerate(chains)}


def test_many_segments_are_read_in_order_and_in_full(store):
    write_chain(store, *([frame(offset)] for offset in range(60)))
    starts = list_segments(store, CHAIN, 0, 60)
    assert [segment.header.start for segment in read_segments(store, CHAIN, starts)] == list(range(60))


def test_an_abandoned_reader_leaves_no_thread(memory):
    write_chain(memory, *([frame(offset)] for offset in range(60)))
    before = threading.active_count()
    reading = read_segments(memory, CHAIN, range(60))
    next(reading)
    reading.close()
    wait_until(lambda: threading.active_count() <= before, limit_s=30, what="its threads to end")


def test_a_missing_or_damaged_segment_ends_the_reading_where_it_is(memory):
    write_chain(memory, *([frame(offset)] for offset in range(5)))
    memory.put(segment_key(CHAIN, 3), b"")
    reading = read_segments(memory, CHAIN, range(5))
    assert [next(reading).header.start for _ in range(3)] == [0, 1, 2]
    with pytest.raises(LedgerError, match="damaged"):
        next(reading)
    with pytest.raises(ObjectMissingError):
        read_segment(memory, segment_key(CHAIN, 99))


class OrderedStore(ObjectStore):
    """A store in memory that declares its listings ordered (they are), so that many sizes can be tested quickly."""

    lists_in_order = True


def store_of(starts: Iterable[int], strays: Iterable[str] = ()) -> ObjectStore:
    made = OrderedStore(MemoryStore(), "memory://")
    for start in starts:
        made.put(segment_key(CHAIN, start), b"")
    for stray in strays:
        made.put(f"{chain_prefix(CHAIN)}/{stray}", b"")
    made.put(segment_key(LATER, 7), b"")
    return made


_starts = st.one_of(
    st.sets(st.integers(0, 60)),
    st.sets(st.integers(99_980, 100_020)),
    st.sets(st.integers(0, 10**7)),
    st.builds(lambda first, count: set(range(first, first + count)), st.integers(0, 200_000), st.integers(0, 80)),
)
_hints = st.none() | st.integers(-5, 120) | st.integers(99_900, 100_100) | st.integers(0, 2**63 - 1)
_strays = st.sets(
    st.sampled_from(["notes/readme", "000000000000000/readme", "000000000000009/x", "000000000000001/zzz.txt"])
    | st.integers(0, 40).map(lambda n: f"000000000000000/{n:020d}.tmp")
)


@settings(max_examples=examples(300))
@given(_starts, _hints, _strays)
def test_the_greatest_start_is_found_with_any_hint_and_any_strays(starts, hint, strays):
    with patch.object(reading, "PAGE_KEYS", 4):
        found = find_last(store_of(starts, strays), CHAIN, hint=hint)
        assert (found.start if found else None) == max(starts, default=None)


@pytest.fixture
def long_chain(s3: S3Server, bucket: S3Bucket) -> int:
    """A chain of many one-offset segments, put as links into the server's folder; returns the last start."""
    store = open_store(s3_settings(bucket))
    store.put(segment_key(CHAIN, 0), b"any")
    first = s3.data_dir / bucket.name / "lake" / segment_key(CHAIN, 0)
    for start in range(1, SEGMENTS):
        (first.parent / segment_key(CHAIN, start).rpartition("/")[2]).hardlink_to(first)
    return SEGMENTS - 1


@pytest.mark.parametrize(
    ("hint", "most_requests"),
    [
        (SEGMENTS - 1, 1),
        (SEGMENTS - 40, 1),
        (SEGMENTS, 1),
        (SEGMENTS + 500, 3),
        (SEGMENTS + 100_000, 10),
        (10, 6),
        (None, 6),
    ],
    ids=["its start", "an older one", "the end", "close behind it", "far behind it", "far before it", "none"],
)
def test_few_requests_find_the_last_of_thousands(s3, bucket, long_chain, hint, most_requests):
    with AnswerLosingProxy(s3.port) as proxy:
        store = open_store(s3_settings(bucket, s3_endpoint=proxy.endpoint))
        found = find_last(store, CHAIN, hint=hint)
        assert found is not None
        assert found.start == long_chain
        assert len(proxy.seen) <= most_requests, proxy.seen


@pytest.fixture
def filled() -> ObjectStore:
    """A chain of the segments [0, 3), [3, 5), [5, 200005) and [200005, 200007)."""
    store = open_memory_store()
    write_chain(store, frames(0, 3), frames(3, 5), [*frames(5, 6), gap(6, 200_005)], frames(200_005, 200_007))
    return store


@pytest.mark.parametrize(
    ("offsets", "found"),
    [
        ([], []),
        ([4], [(3, (4,))]),
        ([2, 0, 3], [(0, (0, 2)), (3, (3,))]),
        ([5], [(5, (5,))]),
        ([200_004], [(5, (200_004,))]),
        ([200_006, 1], [(0, (1,)), (200_005, (200_006,))]),
    ],
)
def test_each_offset_is_found_in_its_segment(filled, offsets, found):
    assert [(s.header.start, held) for s, held in segments_holding(filled, CHAIN, offsets)] == found


def test_segments_without_such_offsets_are_not_read(filled):
    filled.put(segment_key(CHAIN, 3), b"damaged")
    assert [s.header.start for s, _ in segments_holding(filled, CHAIN, [0, 200_005])] == [0, 200_005]


@pytest.mark.parametrize(("removed", "offset"), [(0, 1), (3, 4), (200_005, 200_006)])
def test_an_offset_that_no_segment_holds_is_an_error(filled, removed, offset):
    filled.delete(segment_key(CHAIN, removed))
    with pytest.raises(LedgerError, match=f"holds the offset {offset}"):
        list(segments_holding(filled, CHAIN, [offset]))
