"""Makes bundles of the ranges that a chain has moved past.

The repair list is read before the segments. A repair that changes a segment later opens an entry first, so a bundle of
the old bytes has a revision that no reader looks for. So a bundler may pause at any step, and several may work at the
same time.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain as chain_together
from math import ceil

from imgpipeline.contracts.keys import (
    BUNDLE_OFFSETS,
    FAN_OUT_OFFSETS,
    OFFSET_LIMIT,
    BundleId,
    ChainId,
    bundle_key,
    chain_prefix,
    segment_key,
)
from imgpipeline.errors import LedgerError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.bundles.stored import (
    PIECE_BYTES,
    StoredBundle,
    current_id,
    discard,
    encode_bundle,
    list_bundles,
    readable,
)
from imgpipeline.ledger.reading import find_end, last_segment_before, list_chains, list_sizes, open_segment
from imgpipeline.ledger.repair.repair_list import list_repairs
from imgpipeline.ledger.segment import SegmentHeader
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

FEWEST_SEGMENTS = 20
"""Minimum number of segments. A range with fewer, longer segments needs few requests even without a bundle."""
MOST_BYTES = 2**27
"""Maximum size of a bundle, which is made in memory and put with one request."""
_READERS = 16
_AHEAD = 64
_LOOKERS = 8


@dataclass(frozen=True, slots=True)
class RangeToBundle:
    """A range that has enough segments and no readable bundle."""

    bundle: BundleId
    starts: tuple[int, ...]
    size_bytes: int
    outdated: tuple[StoredBundle, ...]

    @property
    def requests_saved(self) -> int:
        """Number of requests that the bundle saves when the whole range is read."""
        return len(self.starts) - ceil(self.size_bytes / PIECE_BYTES) - 1


@dataclass(frozen=True, slots=True)
class Bundling:
    """The result for one range."""

    range: RangeToBundle
    size_bytes: int
    """Size of the bundle; 0 if none was made."""
    problem: str | None
    """Why no bundle was made; None if there is one now."""


def find_ranges(store: ObjectStore, chain: ChainId, *, fewest: int = FEWEST_SEGMENTS) -> Iterator[RangeToBundle]:
    """Yields the ranges of a chain that need a bundle, the newest first.

    Raises:
        LedgerError: The chain's last segment cannot be read.
    """
    repairs = list_repairs(store)  # before any segment is read, as explained above
    bundles = list_bundles(store, chain, 0, OFFSET_LIMIT // BUNDLE_OFFSETS)
    known = readable(bundles, repairs)
    outdated: dict[int, list[StoredBundle]] = defaultdict(list)
    for stored in bundles:
        if known.get(stored.bundle.number) != stored:
            outdated[stored.bundle.number].append(stored)
    end = find_end(store, chain, hint=max((n + 1 for n in known), default=0) * BUNDLE_OFFSETS or None)
    # The chain has moved past a range when a segment starts after it.
    complete = end.header.start // BUNDLE_OFFSETS if end.header else 0
    if all(number in known for number in range(complete)):
        return
    for first, behind in _folders(store, chain, complete):
        missing = [number for number in range(first, behind) if number not in known]
        if missing:
            found = _segments_of(store, chain, missing[0], missing[-1] + 1)
            for number in reversed(missing):
                bundle = current_id(chain, number, repairs)
                size_bytes = sum(size for _, size in found[number])
                if len(found[number]) >= fewest and size_bytes <= MOST_BYTES:
                    starts = tuple(start for start, _ in found[number])
                    yield RangeToBundle(bundle, starts, size_bytes, tuple(outdated[number]))


def make_bundle(store: ObjectStore, wanted: RangeToBundle) -> Bundling:
    """Makes one bundle, unless the range has a hole or a segment that cannot be read.

    Returns:
        The result. Another bundler may have been faster and made the same bytes.

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
    """Yields the segments of a range, which must cover it together with the segment before.

    Raises:
        LedgerError: The range is not covered, or a segment cannot be read.
        ObjectMissingError: A segment was removed meanwhile.
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


@dataclass(slots=True)
class BundlingReport:
    """The result of a pass over the ledger."""

    bundles: int = 0
    segments: int = 0
    size_bytes: int = 0
    """Total size of the new bundles."""
    requests_saved: int = 0
    """Number of requests that the new bundles save when all of them are read."""
    problems: list[str] = field(default_factory=list)
    """Why a chain or range has no bundle, including damage."""
    is_complete: bool = True

    def add(self, done: Bundling) -> None:
        """Adds the result for one range."""
        if done.problem is not None:
            self.problems.append(done.problem)
            return
        self.bundles += 1
        self.segments += len(done.range.starts)
        self.size_bytes += done.size_bytes
        self.requests_saved += done.range.requests_saved


def bundle_ledger(store: ObjectStore, *, is_over: Callable[[], bool] = lambda: False) -> BundlingReport:
    """Makes all missing bundles, the newest of each chain first.

    A chain whose end cannot be read, or a range with damage, does not prevent the bundles of others. `is_over` is
    called before each bundle; True ends the pass, and the next pass continues.

    Raises:
        TransientError: The store does not answer.
    """
    report = BundlingReport()
    looked = map_ahead(lambda c: _begin(store, c), list_chains(store), workers=_LOOKERS, ahead=_LOOKERS)
    for found in looked:
        if isinstance(found, str):
            report.problems.append(found)
            continue
        for wanted in found:
            if is_over():
                report.is_complete = False
                return report
            report.add(make_bundle(store, wanted))
    return report


def _begin(store: ObjectStore, chain: ChainId) -> Iterator[RangeToBundle] | str:
    """Searches for the first range of a chain now, so that chains without work are checked in parallel."""
    ranges = find_ranges(store, chain)
    try:
        first = next(ranges, None)
    except LedgerError as error:
        return error.message
    return chain_together([first] if first else [], ranges)
