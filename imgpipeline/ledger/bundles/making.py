"""Making bundles of the ranges that a chain has moved past.

The repair marks are listed before the segments are read. A repair that changes one of them later puts its mark first,
so a bundle of the old bytes has a revision that no reader looks for. A bundler may therefore pause at any step, and any
number of them may work at once.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from imgpipeline.contracts.bundle_keys import BUNDLE_OFFSETS, BundleId, bundle_key, revision_of
from imgpipeline.contracts.keys import FAN_OUT_OFFSETS, OFFSET_LIMIT, ChainId, chain_prefix, segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.bundles.catalog import StoredBundle, list_bundles, list_marks, readable
from imgpipeline.ledger.bundles.format import encode_bundle
from imgpipeline.ledger.bundles.opening import PIECE_BYTES, discard
from imgpipeline.ledger.reading import find_end, last_segment_before, list_sizes, open_segment
from imgpipeline.ledger.segment import SegmentHeader
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

FEWEST_SEGMENTS = 20
"""A range of fewer, longer segments is read in as few requests without a bundle."""
MOST_BYTES = 2**27
"""Size of the largest bundle: it is made in memory, and put by one request."""
_READERS = 16
_AHEAD = 64


@dataclass(frozen=True, slots=True)
class RangeToBundle:
    """A range that has enough segments and no bundle that may be read."""

    bundle: BundleId
    """What is to be made."""
    starts: tuple[int, ...]
    """Starts of the range's segments, sorted."""
    size_bytes: int
    """Size of these segments together."""
    outdated: tuple[StoredBundle, ...]
    """Bundles of the range that may not be read any more."""

    @property
    def requests_saved(self) -> int:
        """How many fewer requests one reading of the whole range needs with the bundle."""
        return len(self.starts) - ceil(self.size_bytes / PIECE_BYTES) - 1


@dataclass(frozen=True, slots=True)
class Bundling:
    """What became of a range."""

    range: RangeToBundle
    """The range."""
    size_bytes: int
    """Size of the bundle; 0 where none was made."""
    problem: str | None
    """Why none was made; None if there is one now."""


def find_ranges(store: ObjectStore, chain: ChainId, *, fewest: int = FEWEST_SEGMENTS) -> Iterator[RangeToBundle]:
    """Yields the ranges of a chain that a bundle is to be made of, the newest first.

    Args:
        store: The object store.
        chain: Which chain.
        fewest: Ranges with fewer segments are left out.

    Raises:
        LedgerError: The chain's last segment cannot be read.
    """
    marks = list_marks(store, chain)  # before anything is read: see above
    bundles = list_bundles(store, chain, 0, OFFSET_LIMIT // BUNDLE_OFFSETS)
    known = readable(bundles, marks)
    outdated: dict[int, list[StoredBundle]] = defaultdict(list)
    for stored in bundles:
        if known.get(stored.bundle.number) != stored:
            outdated[stored.bundle.number].append(stored)
    end = find_end(store, chain, hint=max((n + 1 for n in known), default=0) * BUNDLE_OFFSETS or None)
    # The chain has moved past a range once a segment starts behind it.
    complete = end.header.start // BUNDLE_OFFSETS if end.header else 0
    if all(number in known for number in range(complete)):
        return
    for first, behind in _folders(store, chain, complete):
        missing = [number for number in range(first, behind) if number not in known]
        if missing:
            found = _segments_of(store, chain, missing[0], missing[-1] + 1)
            for number in reversed(missing):
                bundle = BundleId(chain, number, revision_of(number, marks))
                size_bytes = sum(size for _, size in found[number])
                if len(found[number]) >= fewest and size_bytes <= MOST_BYTES:
                    starts = tuple(start for start, _ in found[number])
                    yield RangeToBundle(bundle, starts, size_bytes, tuple(outdated[number]))


def make_bundle(store: ObjectStore, wanted: RangeToBundle) -> Bundling:
    """Makes one bundle, unless the range has a hole or a segment that cannot be read.

    Args:
        store: The object store.
        wanted: The range, as `find_ranges` has found it.

    Returns:
        What became of it; another bundler may have been faster, with the same bytes.

    Raises:
        TransientError: The store does not answer.
    """
    bundle, key = wanted.bundle, bundle_key(wanted.bundle)
    reach("bundle read", key)
    try:
        data = encode_bundle(bundle, _read_whole(store, bundle, wanted.starts))
    except (LedgerError, ObjectMissingError) as error:
        return Bundling(wanted, 0, error.message)
    reach("bundle put", key)
    store.create(key, data)
    reach("bundle put done", key)
    for old in wanted.outdated:
        discard(store, old)
    return Bundling(wanted, len(data), None)


def _folders(store: ObjectStore, chain: ChainId, complete: int) -> Iterator[tuple[int, int]]:
    """Yields the numbers of the ranges in each folder that has segments, the newest folder first."""
    in_folder = FAN_OUT_OFFSETS // BUNDLE_OFFSETS
    names = [int(name) for name in store.list_folders(chain_prefix(chain)) if name.isdecimal()]
    for folder in sorted(names, reverse=True):
        yield folder * in_folder, min((folder + 1) * in_folder, complete)


def _segments_of(store: ObjectStore, chain: ChainId, first: int, behind: int) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for start, size_bytes in list_sizes(store, chain, first * BUNDLE_OFFSETS, behind * BUNDLE_OFFSETS):
        found[start // BUNDLE_OFFSETS].append((start, size_bytes))
    return found


def _read_whole(store: ObjectStore, bundle: BundleId, starts: Sequence[int]) -> Iterator[tuple[SegmentHeader, bytes]]:
    """Yields the segments of a range; with the one before them they have to cover it.

    Raises:
        LedgerError: They do not, or one of them cannot be read.
        ObjectMissingError: One of them was removed meanwhile.
    """
    chain = bundle.chain
    before = last_segment_before(store, chain, starts[0]) if starts[0] else None
    position = before.end if before else 0
    keys = (segment_key(chain, start) for start in starts)
    for key, data in map_ahead(lambda key: (key, store.get(key)), keys, workers=_READERS, ahead=_AHEAD):
        header = open_segment(data, key).header
        if header.start != position:
            raise LedgerError(f"The chain {chain} has a hole or an overlap at offset {position}.")
        position = header.end
        yield header, data
    if position < bundle.behind:
        raise LedgerError(f"The chain {chain} has a hole at offset {position}.")
