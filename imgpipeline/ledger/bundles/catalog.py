"""Which bundles a chain has, and which of them may be read.

A bundle may be read when its revision is the one that the chain's repair marks give its range now.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from uuid import uuid4

from imgpipeline.contracts.bundle_keys import (
    BUNDLE_OFFSETS,
    BundleId,
    RepairMark,
    bundle_key,
    bundle_prefix,
    bundle_range_key,
    parse_bundle_key,
    parse_repair_mark_key,
    repair_mark_key,
    repair_mark_prefix,
    revision_of,
)
from imgpipeline.contracts.keys import ChainId
from imgpipeline.objectstore import ObjectStore


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A bundle that a listing has shown."""

    bundle: BundleId
    """Which one."""
    size_bytes: int
    """Size of the object."""

    @property
    def key(self) -> str:
        """Its key."""
        return bundle_key(self.bundle)


def list_bundles(store: ObjectStore, chain: ChainId, first: int, behind: int) -> list[StoredBundle]:
    """Returns the bundles of the ranges number `first` to `behind - 1`, sorted, whether they may be read or not."""
    found: list[StoredBundle] = []
    after = bundle_range_key(chain, first) if first else None
    for info in store.list_objects(bundle_prefix(chain), after=after):
        bundle = parse_bundle_key(chain, info.key)
        if bundle is None:
            continue
        if first <= bundle.number < behind:
            found.append(StoredBundle(bundle, info.size_bytes))
        elif bundle.number >= behind and store.lists_in_order:
            break
    return sorted(found, key=lambda stored: stored.bundle)


def list_marks(store: ObjectStore, chain: ChainId) -> list[RepairMark]:
    """Returns all repair marks of a chain."""
    found = (parse_repair_mark_key(chain, info.key) for info in store.list_objects(repair_mark_prefix(chain)))
    return [mark for mark in found if mark is not None]


def put_mark(store: ObjectStore, chain: ChainId, first: int, behind: int) -> None:
    """Puts a repair mark: from now on, no bundle of what is there at the moment is read in this range.

    Has to be put before the first segment that starts in `[first, behind)` is replaced, removed or put by a repair.
    """
    store.put(repair_mark_key(chain, RepairMark(first, behind, uuid4().hex)), b"")


def readable(bundles: Collection[StoredBundle], marks: Collection[RepairMark]) -> dict[int, StoredBundle]:
    """Returns the bundles that may be read, by the number of their range.

    Args:
        bundles: As they were listed.
        marks: The chain's repair marks, listed after the bundles.
    """
    return {b.bundle.number: b for b in bundles if b.bundle.revision == revision_of(b.bundle.number, marks)}


def find_bundles(store: ObjectStore, chain: ChainId, first: int, behind: int, end: int) -> dict[int, StoredBundle]:
    """Returns the bundles that may be read for a stretch of offsets, by the number of their range.

    Costs one listing where the chain has moved past a range of the stretch, and one more where it has bundles there.

    Args:
        store: The object store.
        chain: Which chain.
        first: First offset of the stretch.
        behind: First offset after it.
        end: The end of the chain that was fixed; only ranges that lie before it as a whole are looked for.
    """
    numbers = range(first // BUNDLE_OFFSETS, min(-(-behind // BUNDLE_OFFSETS), end // BUNDLE_OFFSETS))
    bundles = list_bundles(store, chain, numbers.start, numbers.stop) if numbers else []
    return readable(bundles, list_marks(store, chain)) if bundles else {}


def ranges_of(first: int, behind: int) -> Iterator[tuple[int, int, int]]:
    """Splits offsets at the boundaries of ranges: number of the range, first offset, first offset after it."""
    while first < behind:
        number = first // BUNDLE_OFFSETS
        border = min((number + 1) * BUNDLE_OFFSETS, behind)
        yield number, first, border
        first = border
