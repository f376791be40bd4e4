"""A day is read completely up to fixed ends, or not at all."""

from collections.abc import Sequence
from datetime import date, timedelta
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.keys import Bucket, ChainId, bucket_key, segment_key
from imgpipeline.contracts.outcomes import Frame, Outcome
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.days import DayIndex, days_of_chain, has_segment, index_buckets, read_day, read_days
from imgpipeline.ledger.reading import find_end
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.ledger.bundles.samples import bundle_all
from imgpipeline_tests.ledger.samples import (
    CHAIN,
    DAY,
    append,
    check_ledger,
    dead_letter,
    ends_of,
    frame,
    frames,
    gap,
    stored_segments,
    write_chain,
)
from imgpipeline_tests.objectstore.noting import MeetingStore, NotingStore

NEXT = DAY + timedelta(days=1)
OTHER = ChainId("frames", "another_id", 4)


def starts(store: ObjectStore, day: date = DAY, ends: dict[ChainId, int] | None = None, **others: dict[ChainId, int]):
    found = read_day(store, day, ends_of(store) if ends is None else ends, **others)
    return [segment.header.start for segment in found]


def test_reading_a_day_yields_every_segment_that_touches_it_in_order(store):
    write_chain(
        store,
        frames(0, 3),
        [frame(3), frame(4, NEXT)],
        frames(5, 6, NEXT),
        [dead_letter(6, DAY)],
        [dead_letter(7, None), gap(8, 1500)],
        frames(1500, 1502),
    )
    assert starts(store) == [0, 3, 6, 1500]
    assert starts(store, NEXT) == [3, 5]
    assert starts(store, NEXT + timedelta(days=1)) == []


def test_only_chains_with_fixed_ends_are_read_one_after_the_other(store):
    write_chain(store, frames(0, 1))
    write_chain(store, frames(0, 2), frames(2, 3), chain=OTHER)
    assert starts(store) == [0, 2, 0]
    assert starts(store, ends={CHAIN: 1}) == [0]
    assert starts(store, ends={}) == []


def test_segments_after_the_fixed_ends_are_not_read(store):
    made = write_chain(store, frames(0, 2))
    ends = ends_of(store)
    reading = read_day(store, DAY, ends)
    append(made, frames(2, 4))
    write_chain(store, frames(0, 9), chain=OTHER)
    assert [segment.header.start for segment in reading] == [0]
    assert starts(store, ends=ends) == [0]


def test_since_skips_segments_that_were_read_before(store):
    write_chain(store, frames(0, 999), frames(999, 1003), frames(1003, 1005), frames(1005, 1006, NEXT))
    for since, expected in [(0, [0, 999, 1003]), (999, [999, 1003]), (1003, [1003]), (1005, []), (1006, [])]:
        assert starts(store, since={CHAIN: since}) == expected


def test_several_days_yield_each_of_their_segments_once_in_the_order_of_the_chain(store):
    write_chain(
        store, mixed(0, 4), frames(4, 6), mixed(6, 10), frames(10, 12, NEXT), frames(12, 1500), mixed(1500, 1502)
    )
    write_chain(store, mixed(0, 2), chain=OTHER)
    after = NEXT + timedelta(days=1)

    def read(**since: int):
        days = {
            day: {CHAIN: since[name]} for name, day in (("day", DAY), ("next", NEXT), ("after", after)) if name in since
        }
        return [segment.header.start for segment in read_days(store, days, ends_of(store))]

    assert read(day=0, next=0, after=0) == [0, 0, 4, 6, 10, 12, 1500]
    assert read(next=0, after=0) == [0, 0, 6, 10, 1500]
    assert read(day=6, next=10) == [0, 6, 10, 12, 1500]
    assert read(day=1502, next=1502, after=0) == [0]


def mixed(start: int, end: int) -> list[Outcome]:
    """Return frames that take turns between two days."""
    return [frame(offset, (DAY, NEXT)[offset % 2]) for offset in range(start, end)]


def test_an_index_entry_without_a_segment_of_the_day_is_harmless(store):
    """A run died between index and segment, and another run continued with frames of another day."""
    made = write_chain(store, frames(0, 2))
    DayIndex(store).cover(append_header(made, frames(2, 4, NEXT)))
    assert starts(store, NEXT) == []
    append(made, frames(2, 1500))
    assert starts(store, NEXT) == []
    assert starts(store) == [0, 2]


def append_header(made, outcomes: Sequence[Outcome]):
    """The header of a segment that never comes."""
    elsewhere = write_chain(open_memory_store(), [gap(0, 2)])
    assert elsewhere.end.offset == made.end.offset
    append(elsewhere, outcomes)
    assert elsewhere.end.header is not None
    return elsewhere.end.header


def test_a_late_frame_makes_its_old_day_known(store):
    made = write_chain(store, frames(0, 5, NEXT))
    append(made, [frame(5, DAY)])
    assert starts(store) == [5]
    assert [bucket.day for bucket in index_buckets(store)] == [DAY, NEXT]
    assert index_buckets(store, DAY) == [Bucket(DAY, CHAIN, 0)]


def test_foreign_objects_in_the_index_are_ignored(store):
    write_chain(store, frames(0, 2))
    store.put(f"metadata_days/{DAY}/readme.txt", b"")
    store.put("metadata_days/2026-02-31/frames/id/00000/000000000000000", b"")
    assert index_buckets(store) == [Bucket(DAY, CHAIN, 0)]


LENGTHS = {
    "short segments": [3, 4, 3, 990, 1, 5, 994, 500, 500, 10],
    "one a bucket": [1000] * 5,
    "longer than a bucket": [2500, 100, 2400, 10],
}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_a_removed_segment_is_an_error_instead_of_a_short_result(lengths):
    positions = [sum(lengths[:i]) for i in range(len(lengths))]
    for removed in positions:
        store = open_memory_store()
        write_chain(store, *(sparse(start, start + n) for start, n in zip(positions, lengths, strict=True)))
        ends = ends_of(store)
        store.delete(segment_key(CHAIN, removed))
        with pytest.raises(LedgerError, match="hole"):
            starts(store, ends=ends)


def sparse(start: int, end: int) -> list[Outcome]:
    """A frame at each end of a range and a gap in between, for long segments that are made quickly."""
    if end - start < 3:
        return frames(start, end)
    return [frame(start), gap(start + 1, end - 1), frame(end - 1)]


days = st.integers(0, 3).map(lambda n: DAY + timedelta(days=n))
pieces = st.lists(st.tuples(st.integers(1, 1700), days), min_size=1, max_size=8)


@given(pieces, st.data())
def test_reading_every_day_gives_exactly_the_frames_below_the_ends(parts, data):
    store, made, at = open_memory_store(), None, 0
    bounds = [0]
    for length, day in parts:
        outcomes: list[Outcome] = [frame(at, day)]
        if length > 1:
            outcomes.append(gap(at + 1, at + length))
        made = write_chain(store, outcomes)
        at += length
        bounds.append(at)
    assert made is not None
    assert check_ledger(store) == at
    since, below = sorted(data.draw(st.lists(st.sampled_from(bounds), min_size=2, max_size=2)))
    expected = [
        (o.offset, o.day)
        for segment in stored_segments(store)
        for o in segment.outcomes()
        if isinstance(o, Frame) and since <= o.offset < below
    ]
    read = [
        (o.offset, o.day)
        for n in range(4)
        for segment in read_day(store, DAY + timedelta(days=n), {CHAIN: below}, since={CHAIN: since})
        for o in segment.outcomes()
        if isinstance(o, Frame) and o.day == DAY + timedelta(days=n)
    ]
    assert sorted(read) == expected


def test_each_index_entry_is_put_once_per_run():
    store = NotingStore()
    write_chain(store, *(frames(n, n + 1) for n in range(20)))
    assert store.written == [bucket_key(Bucket(DAY, CHAIN, 0))]
    assert find_end(store, CHAIN).offset == 20


def test_segments_of_different_chains_are_read_at_the_same_time():
    store = MeetingStore()
    chains = [ChainId("frames", CHAIN.topic_id, partition) for partition in range(4)]
    for chain in chains:
        write_chain(store, frames(0, 2), chain=chain)
    ends = ends_of(store)
    store.meeting = Barrier(len(chains))  # breaks if they are read sequentially
    assert [segment.header.chain for segment in read_day(store, DAY, ends)] == chains


def test_chains_with_and_without_bundles_come_in_order(store):
    chains = [ChainId("frames", CHAIN.topic_id, partition) for partition in range(5)]
    for chain in chains[1:3]:
        write_chain(store, frames(0, 2), [gap(2, 9_999)], frames(9_999, 10_001), frames(10_001, 10_002), chain=chain)
    assert bundle_all(store)
    for chain in (chains[0], *chains[3:]):
        write_chain(store, frames(0, 2), [gap(2, 3)], frames(3, 4), chain=chain)
    found = [(segment.header.chain.partition, segment.header.start) for segment in read_day(store, DAY, ends_of(store))]
    starts_of = {1: [0, 9_999, 10_001], 2: [0, 9_999, 10_001]}
    assert found == [(number, start) for number in range(5) for start in starts_of.get(number, [0, 3])]


def test_the_footer_of_a_bundle_tells_whether_a_day_has_a_segment():
    store = NotingStore()
    made = write_chain(store, frames(0, 2), [gap(2, 9_000)], frames(9_000, 9_001, NEXT), [gap(9_001, 10_002)])
    append(made, frames(10_002, 10_003, NEXT))
    assert bundle_all(store)
    ends = ends_of(store)
    store.fetched.clear()
    assert has_segment(store, DAY, ends, since={})
    assert has_segment(store, NEXT, ends, since={CHAIN: 3})
    assert not has_segment(store, DAY, ends, since={CHAIN: 2})
    assert store.fetched == []
    assert has_segment(store, NEXT, ends, since={CHAIN: 9_001})
    assert not has_segment(store, NEXT, ends, since={CHAIN: 10_003})
    assert store.fetched == [segment_key(CHAIN, 10_002)]


def test_the_days_of_a_chain_come_from_its_index_entries(store):
    write_chain(store, frames(0, 900), frames(900, 1500, NEXT), [gap(1500, 3000)], frames(3000, 3001, DAY))
    write_chain(store, frames(0, 1, NEXT + timedelta(days=1)), chain=OTHER)
    assert days_of_chain(store, CHAIN) == [DAY, NEXT]
    assert days_of_chain(store, OTHER) == [NEXT + timedelta(days=1)]
    assert days_of_chain(store, CHAIN, 1000, 2000) == days_of_chain(store, CHAIN, 2000, 3000) == []
    assert days_of_chain(store, CHAIN, 500, 901) == [DAY, NEXT]
    assert days_of_chain(store, CHAIN, 2500) == [DAY]


def test_the_days_of_a_chain_cost_no_listing_of_all_entries():
    store = NotingStore()
    for day in (DAY, NEXT):
        for number in range(50):
            store.put(bucket_key(Bucket(day, CHAIN, number)), b"")
            store.put(bucket_key(Bucket(day, OTHER, number)), b"")
    assert days_of_chain(store, CHAIN, 30_000, 31_000) == [DAY, NEXT]
    assert sorted(store.shown) == [bucket_key(Bucket(day, CHAIN, 30)) for day in (DAY, NEXT)]
