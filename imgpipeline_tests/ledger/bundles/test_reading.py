"""Reading through bundles gives the outcomes of the segments, even if bundles are missing, damaged or outdated."""

from collections import Counter
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.keys import METADATA, ChainId
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.reading import read_chain
from imgpipeline.ledger.reading import find_end, list_chains, read_segments
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.ledger.bundles.samples import DAYS, bundle_all, bundle_keys, read_days, sparse
from imgpipeline_tests.ledger.samples import CHAIN, ends_of, frames, write_chain
from imgpipeline_tests.objectstore.noting import NotingStore

OTHER = ChainId("frames", "another_id", 4)
lengths = st.sampled_from([1, 3, 40, 999, 2_000, 4_999, 7_000, 13_000, 25_000])
layouts = st.lists(st.tuples(lengths, st.lists(st.sampled_from(DAYS), max_size=2)), min_size=1, max_size=25)

per_mille = st.integers(0, 999)


def lay(layout: list[tuple[int, list[date]]]) -> list[list[Outcome]]:
    """Return the outcomes of segments in order."""
    segments, at = [], 0
    for length, days in layout:
        segments.append(sparse(at, length, *days))
        at += length
    return segments


@pytest.mark.slow
@given(layouts, layouts, st.data())
def test_reading_with_bundles_gives_the_same_segments_as_without(one, other, data):
    store = open_memory_store()
    write_chain(store, *lay(one))
    write_chain(store, *lay(other), chain=OTHER)
    bounds = {c: [0, *(s.header.end for s in read_chain(store, c, 0, e))] for c, e in ends_of(store).items()}
    ends = {chain: data.draw(st.sampled_from(bounds[chain])) for chain in bounds}
    since = {c: data.draw(st.sampled_from([b for b in bounds[c] if b <= ends[c]])) for c in bounds}
    expected = read_days(store, ends, since), read_days(store, ends), list(read_chain(store, CHAIN, 0, ends[CHAIN]))

    assert all(made.problem is None for made in bundle_all(store))
    what_becomes_of_them(store, data)

    assert (read_days(store, ends, since), read_days(store, ends)) == expected[:2]
    assert list(read_chain(store, CHAIN, 0, ends[CHAIN])) == expected[2]


def what_becomes_of_them(store: ObjectStore, data: st.DataObject) -> None:
    for key in bundle_keys(store):
        whole = store.get(key)
        match data.draw(st.sampled_from(["nothing", "nothing", "removed", "flipped", "cut", "emptied", "another's"])):
            case "removed":
                store.delete(key)
            case "flipped":
                at = data.draw(per_mille) * len(whole) // 1000
                store.put(key, whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            case "cut":
                store.put(key, whole[: data.draw(per_mille) * len(whole) // 1000])
            case "emptied":
                store.put(key, b"")
            case "another's":
                store.put(key, store.get(data.draw(st.sampled_from(bundle_keys(store)))))


def three_ranges(store: ObjectStore) -> None:
    """Three ranges of many short segments, and one that the chain has not moved past."""
    segments = [sparse(start, 100, DAYS[start // 10_000]) for start in range(0, 30_000, 100)]
    write_chain(store, *segments, frames(30_000, 30_002, DAYS[3]))


def folders(keys: list[str]) -> Counter[str]:
    return Counter(key.partition("/")[0] for key in keys)


@pytest.mark.medium
def test_no_segment_of_a_bundled_range_is_listed_or_fetched(store):
    three_ranges(store)
    expected = read_days(store, {CHAIN: 30_002})
    bundle_all(store)
    counting = NotingStore(store)
    assert read_days(counting, {CHAIN: 30_002}) == expected
    # The day in the range without a bundle: its segment, its listing, and none of the one before it.
    assert folders(counting.fetched) == {METADATA: 1}
    assert folders(counting.listed) == {
        "metadata_days": 4,
        "metadata_bundles": 3,
        "metadata_repair_list": 3,
        METADATA: 1,
    }


def test_a_small_store_costs_no_extra_requests(store):
    write_chain(store, frames(0, 3), frames(3, 9))
    counting = NotingStore(store)
    read_days(counting, {CHAIN: 9})
    assert not folders(counting.listed).keys() & {"metadata_bundles", "metadata_repair_list"}


@pytest.mark.medium
def test_a_damaged_bundle_is_removed_by_its_reader_and_rebuilt_with_the_same_bytes(store):
    three_ranges(store)
    bundle_all(store)
    keys, whole = bundle_keys(store), [store.get(key) for key in bundle_keys(store)]
    store.put(keys[0], whole[0][:200] + b"?" + whole[0][201:])
    store.put(keys[1], whole[1][:-1] + b"?")
    read_days(store, {CHAIN: 30_002})
    assert bundle_keys(store) == keys[2:]
    bundle_all(store)
    assert [store.get(key) for key in bundle_keys(store)] == whole


@pytest.mark.medium
def test_a_bundle_of_a_newer_version_is_left_alone_and_the_segments_are_read(store, monkeypatch):
    three_ranges(store)
    expected = read_days(store, {CHAIN: 30_002})
    with monkeypatch.context() as patched:
        patched.setattr("imgpipeline.ledger.bundles.stored.FORMAT_VERSION", 99)
        bundle_all(store)
    keys = bundle_keys(store)
    assert len(keys) == 3
    assert read_days(store, {CHAIN: 30_002}) == expected
    assert bundle_keys(store) == keys


@pytest.mark.medium
def test_a_damaged_segment_under_a_bundle_stops_no_reader_until_the_bundle_is_gone(store):
    three_ranges(store)
    expected = read_days(store, {CHAIN: 30_002})
    bundle_all(store)
    key = next(info.key for info in store.list_objects(METADATA) if info.key.endswith("00010000.jsonl.zst"))
    store.put(key, b"")
    assert read_days(store, {CHAIN: 30_002}) == expected
    store.delete(bundle_keys(store)[1])
    with pytest.raises(LedgerError, match=key):
        read_days(store, {CHAIN: 30_002})


@pytest.mark.parametrize("gone", [0, 1, 2], ids=["first", "middle", "last"])
def test_segments_that_reach_over_the_border_of_a_missing_bundle_are_read_once(memory, gone):
    write_chain(memory, *(sparse(start, 700, *DAYS) for start in range(0, 35_000, 700)))
    expected = read_days(memory, {CHAIN: 35_000})
    bundle_all(memory)
    memory.delete(bundle_keys(memory)[gone])
    assert read_days(memory, {CHAIN: 35_000}) == expected


@pytest.mark.medium
def test_nothing_after_a_fixed_end_inside_a_range_is_read(store):
    three_ranges(store)
    expected = read_days(store, {CHAIN: 15_100})
    bundle_all(store)
    assert read_days(store, {CHAIN: 15_100}) == expected
    assert expected[-1][2] == 15_000


def test_a_bundle_that_reaches_beyond_the_end_is_not_read(store):
    """The last segments were removed, so the chain ends earlier, as it would without the bundle."""
    three_ranges(store)
    bundle_all(store)
    for info in list(store.list_objects(METADATA)):
        if info.key[-30:-10] >= f"{20_000 - 100:020d}":
            store.delete(info.key)
    [chain] = list_chains(store)
    end = find_end(store, chain).offset
    assert end == 19_900
    starts = [start for day, _, start, _ in read_days(store, {chain: end}) if day == DAYS[1]]
    assert starts == [s.header.start for s in read_segments(store, chain, range(10_000, 19_900, 100))]
