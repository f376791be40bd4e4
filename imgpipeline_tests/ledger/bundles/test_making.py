"""Each complete range that the chain has moved past gets exactly one bundle."""

from collections.abc import Iterator

import pytest

from imgpipeline.contracts.keys import BundleId, ChainId, bundle_key, segment_key
from imgpipeline.ledger.bundles.making import bundle_ledger, find_ranges, make_bundle
from imgpipeline.ledger.chain import close_chain
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import find_end
from imgpipeline.ledger.repair.damage import find_damage
from imgpipeline.ledger.repair.mending import Made, Mender, Piece, pieces_of
from imgpipeline.ledger.repair.repair_list import close_repair, open_repair
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.bundles.samples import DAYS, bundle_all, bundle_keys, read_days, sparse
from imgpipeline_tests.ledger.samples import CHAIN, NOON, PROVENANCE, frames, gap, write_chain


def key_of(number: int, revision: str = "0" * 16) -> str:
    return bundle_key(BundleId(CHAIN, number, revision))


def numbers(store: ObjectStore, *, fewest: int = 1) -> list[int]:
    return [found.bundle.number for found in find_ranges(store, CHAIN, fewest=fewest)]


def test_a_range_is_bundled_when_a_segment_starts_after_it(store):
    made = write_chain(store, sparse(0, 9_999, DAYS[0]))
    assert numbers(store) == []
    write_chain(store, sparse(9_999, 5_000, DAYS[0]))
    assert numbers(store) == []
    made = write_chain(store, frames(14_999, 15_001))
    assert numbers(store) == [0]
    [bundled] = bundle_all(store)
    assert (bundled.problem, bundle_keys(store)) == (None, [key_of(0)])
    assert numbers(store) == []
    assert made.end.offset == 15_001


def test_the_newest_ranges_come_first_over_several_folders(store):
    write_chain(store, *(sparse(start, 5_000, DAYS[0]) for start in range(0, 230_000, 5_000)))
    assert numbers(store) == [*range(21, -1, -1)]
    bundle_all(store)
    store.delete(key_of(4))
    store.delete(key_of(13))
    assert numbers(store) == [13, 4]


def test_ranges_in_which_no_segment_starts_have_no_bundle(store):
    write_chain(store, frames(0, 2), [gap(2, 525_000)], frames(525_000, 525_003), sparse(525_003, 40_000, DAYS[1]))
    write_chain(store, frames(565_003, 565_005))
    assert numbers(store) == [52, 0]
    expected = read_days(store, {CHAIN: 565_005})
    bundle_all(store)
    assert read_days(store, {CHAIN: 565_005}) == expected


def test_a_range_of_few_segments_needs_no_bundle(store):
    write_chain(store, *(sparse(start, 1_000, DAYS[0]) for start in range(0, 21_000, 1_000)))
    assert numbers(store, fewest=11) == []
    assert numbers(store, fewest=10) == [1, 0]


def test_a_range_that_is_too_large_has_no_bundle(store, monkeypatch):
    write_chain(store, *(sparse(start, 1_000, DAYS[0]) for start in range(0, 21_000, 1_000)))
    monkeypatch.setattr("imgpipeline.ledger.bundles.making.MOST_BYTES", 1_000)
    assert numbers(store) == []


@pytest.mark.parametrize("start", [10_000, 15_000, 19_000], ids=["first", "middle", "last"])
@pytest.mark.parametrize("bad", [b"", None], ids=["damaged", "removed"])
def test_a_range_with_a_hole_or_damage_has_no_bundle(store, start, bad):
    write_chain(store, *(sparse(at, 1_000, DAYS[0]) for at in range(0, 31_000, 1_000)))
    key = segment_key(CHAIN, start)
    if bad is None:
        store.delete(key)
    else:
        store.put(key, bad)
    made = {done.range.bundle.number: done.problem is None for done in bundle_all(store)}
    # Nor has the next range, where the segment before it is the one that is gone.
    assert made == {0: True, 1: False, 2: start != 19_000}
    assert bundle_keys(store) == [key_of(number) for number in sorted(made) if made[number]]


def test_a_range_whose_first_offsets_no_segment_covers_has_no_bundle(store):
    write_chain(store, *(sparse(at, 1_500, DAYS[0]) for at in range(0, 31_500, 1_500)))
    store.delete(segment_key(CHAIN, 9_000))
    assert [made.problem is None for made in bundle_all(store)] == [True, False, False]


def test_a_closed_chain_is_bundled_up_to_its_closing(store):
    write_chain(store, sparse(0, 10_000, DAYS[0]))
    assert close_chain(store, find_end(store, CHAIN), run_id="run", created_at=NOON)
    assert numbers(store) == [0]


def test_a_repaired_range_is_bundled_again_and_the_old_bundle_is_removed(store):
    write_chain(store, *(sparse(at, 1_000, DAYS[0]) for at in range(0, 31_000, 1_000)))
    bundle_all(store)
    store.put(segment_key(CHAIN, 3_000), b"")
    mend_with_gaps(store)
    expected = [start for _, _, start, _ in read_days(store, {CHAIN: 31_000})]
    assert 3_000 not in expected
    assert numbers(store) == [0]
    bundle_all(store)
    [renewed, *others] = bundle_keys(store)
    assert renewed != key_of(0)
    assert others == [key_of(1), key_of(2)]
    assert [start for _, _, start, _ in read_days(store, {CHAIN: 31_000})] == expected
    assert numbers(store) == []


def mend_with_gaps(store: ObjectStore) -> None:
    mender = Mender(store, CHAIN, PROVENANCE, lambda: NOON, DayIndex(store), None)
    for stretch in find_damage(store, CHAIN).stretches:
        assert list(mender.mend(stretch, pieces_of(stretch, 0), gap_for, lambda _: None))


def gap_for(piece: Piece) -> Iterator[Made]:
    yield gap(piece.start, piece.end), None


def test_bytes_from_before_a_repair_are_never_read_as_a_bundle_after_it(store):
    """A segment is replaced while the bundler sleeps between reading the segments and putting the bundle."""
    write_chain(store, *(sparse(at, 1_000, DAYS[0]) for at in range(0, 11_000, 1_000)))
    [found] = find_ranges(store, CHAIN, fewest=1)
    whole = store.get(segment_key(CHAIN, 3_000))
    store.put(segment_key(CHAIN, 3_000), b"")
    mend_with_gaps(store)
    mended = store.get(segment_key(CHAIN, 3_000))
    store.put(segment_key(CHAIN, 3_000), whole)  # what the sleeper has read
    assert make_bundle(store, found).problem is None
    store.put(segment_key(CHAIN, 3_000), mended)

    assert bundle_keys(store) == [key_of(0)]
    assert 3_000 not in [start for _, _, start, _ in read_days(store, {CHAIN: 11_000})]
    bundle_all(store)
    assert key_of(0) not in bundle_keys(store)


def test_a_repair_affects_only_the_bundles_of_the_ranges_that_it_overlaps(store):
    write_chain(store, *(sparse(at, 1_000, DAYS[0]) for at in range(0, 51_000, 1_000)))
    bundle_all(store)
    before = bundle_keys(store)
    opened = open_repair(store, CHAIN, 19_999, 30_000, [])
    assert numbers(store) == [2, 1]
    open_repair(store, ChainId("frames", "another", 0), 0, 50_000, [])
    close_repair(store, opened)
    assert numbers(store) == [2, 1]
    bundle_all(store)
    assert len({*before, *bundle_keys(store)}) == 7
    open_repair(store, CHAIN, 29_999, 30_000, [])
    assert numbers(store) == [2], "each repair of a range has a revision of its own"


def test_a_pass_makes_each_bundle_once_and_names_a_range_with_damage(store):
    write_chain(store, *(sparse(start, 250, DAYS[0]) for start in range(0, 20_250, 250)))
    store.put(segment_key(CHAIN, 500), b"")
    made = bundle_ledger(store)
    assert (made.bundles, made.segments) == (1, 40)
    [problem] = made.problems
    assert f"The segment {segment_key(CHAIN, 500)} is damaged" in problem
    assert made.size_bytes == sum(len(store.get(key)) for key in bundle_keys(store))
    assert bundle_ledger(store).bundles == 0
