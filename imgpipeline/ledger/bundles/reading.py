"""Reads ranges of a chain with few requests: through bundles where possible, otherwise from the segments.

The result is the same either way.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from imgpipeline.contracts.keys import BUNDLE_OFFSETS, ChainId, segment_key
from imgpipeline.ledger.bundles.stored import (
    BundledSegment,
    DamagedBundleError,
    OpenBundle,
    StoredBundle,
    discard,
    find_bundles,
    neighbours,
    open_bundled,
    try_open,
)
from imgpipeline.ledger.reading import last_segment_before, list_segments, read_segment, read_segments
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

_READERS = 4
_AHEAD = 4
_OPENED_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Covered:
    """Offsets of a segment that was not read."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets of a chain that are read in the same way: the segments that start in `[first, behind)`."""

    first: int
    behind: int
    bundles: tuple[StoredBundle, ...] = ()
    """The bundle of each range; empty if the segments are listed and read."""


Wanted = Callable[[BundledSegment], bool]
"""Returns whether a segment in a bundle is to be fetched."""


def join_stretches(bundles: Mapping[int, StoredBundle], first: int, behind: int) -> list[Stretch]:
    """Joins adjacent ranges with bundles, and adjacent ranges without."""
    if first >= behind:
        return []
    if not bundles:
        return [Stretch(first, behind)]
    stretches: list[Stretch] = []
    for number in range(first // BUNDLE_OFFSETS, -(-behind // BUNDLE_OFFSETS)):
        begin, border = max(number * BUNDLE_OFFSETS, first), min((number + 1) * BUNDLE_OFFSETS, behind)
        own = (bundles[number],) if number in bundles else ()
        if stretches and bool(stretches[-1].bundles) == bool(own):
            stretches[-1] = Stretch(stretches[-1].first, border, stretches[-1].bundles + own)
        else:
            stretches.append(Stretch(begin, border, own))
    return stretches


def read_stretches(
    store: ObjectStore, chain: ChainId, stretches: Sequence[Stretch], *, end: int, wanted: Wanted
) -> Iterator[Segment | Covered]:
    """Yields the segments of adjacent stretches in order, or the offsets of segments that are not read.

    If no segment starts at the first offset, the offsets of the segment that covers it come first. Nothing after `end`,
    the fixed end of the chain, is read through a bundle. `wanted` selects the segments to read in bundles; all segments
    outside of bundles are read.

    Raises:
        LedgerError: A segment cannot be read.
        ObjectMissingError: A segment was removed meanwhile.
    """
    for number, stretch in enumerate(stretches):
        if stretch.bundles:
            yield from read_bundles(store, chain, stretch, end=end, wanted=wanted, leads=number == 0)
        else:
            yield from _read_plain(store, chain, stretch, leads=number == 0)


def read_chain(store: ObjectStore, chain: ChainId, first: int, end: int) -> Iterator[Segment]:
    """Yields all segments of a chain that start in `[first, end)`, in order; `end` is the fixed end of the chain.

    Raises:
        LedgerError: A segment cannot be read.
        ObjectMissingError: A segment was removed meanwhile.
    """
    for stretch in join_stretches(find_bundles(store, chain, first, end, end), first, end):
        if stretch.bundles:
            found = read_bundles(store, chain, stretch, end=end, wanted=lambda _: True)
            yield from (segment for segment in found if isinstance(segment, Segment))
        else:
            yield from read_segments(store, chain, list_segments(store, chain, stretch.first, stretch.behind))


def read_bundles(
    store: ObjectStore, chain: ChainId, stretch: Stretch, *, end: int, wanted: Wanted, leads: bool = True
) -> Iterator[Segment | Covered]:
    """Yields the segments of a stretch that has bundles, like `read_stretches`.

    Without `leads`, the offsets of a segment that starts before the stretch are left out.
    """

    def read(piece: _Piece | Covered | Stretch) -> Sequence[Segment] | Covered | Stretch:
        return piece.read(store, chain) if isinstance(piece, _Piece) else piece

    pieces = _pieces(store, stretch, end, wanted, leads=leads)
    for found in map_ahead(read, pieces, workers=_READERS, ahead=_AHEAD):
        if isinstance(found, Stretch):
            yield from _read_plain(store, chain, found, leads=leads and found.first == stretch.first)
        elif isinstance(found, Covered):
            yield found
        else:
            yield from found


@dataclass(frozen=True, slots=True)
class _Piece:
    """Segments of a bundle that are read with one request."""

    bundle: OpenBundle
    segments: tuple[BundledSegment, ...]

    def read(self, store: ObjectStore, chain: ChainId) -> Sequence[Segment]:
        try:
            data = self.bundle.cut(store, self.segments[0], self.segments[-1])
            return [open_bundled(self.bundle.stored, segment, data, self.segments[0]) for segment in self.segments]
        except DamagedBundleError:
            discard(store, self.bundle.stored)
        except ObjectMissingError:
            pass
        return [read_segment(store, segment_key(chain, segment.start)) for segment in self.segments]


def _pieces(
    store: ObjectStore, stretch: Stretch, end: int, wanted: Wanted, *, leads: bool
) -> Iterator[_Piece | Covered | Stretch]:
    """Yields what to read, what to leave out, and as stretches the ranges with an unusable bundle."""
    opened = map_ahead(
        lambda stored: try_open(store, stored), stretch.bundles, workers=_OPENED_AHEAD, ahead=_OPENED_AHEAD
    )
    for stored, bundle in zip(stretch.bundles, opened, strict=True):
        first = max(stored.bundle.first, stretch.first)
        behind = min(stored.bundle.behind, stretch.behind)
        if bundle is None or bundle.segments[-1].end > end:
            yield Stretch(first, behind)
        else:
            yield from _cut(bundle, first, behind, wanted, leads=leads and first == stretch.first)


def _cut(bundle: OpenBundle, first: int, behind: int, wanted: Wanted, *, leads: bool) -> Iterator[_Piece | Covered]:
    if leads and first < bundle.segments[0].start:
        # The bundler has checked that the segment before reaches up to here.
        yield Covered(first, bundle.segments[0].start)
    overlapping = (segment for segment in bundle.segments if segment.end > first and segment.start < behind)
    for is_read, group in groupby(overlapping, key=lambda segment: segment.start >= first and wanted(segment)):
        segments = tuple(group)
        if is_read:
            yield from (_Piece(bundle, piece) for piece in neighbours(segments))
        else:
            yield Covered(segments[0].start, segments[-1].end)


def _read_plain(store: ObjectStore, chain: ChainId, stretch: Stretch, *, leads: bool) -> Iterator[Segment | Covered]:
    starts = list_segments(store, chain, stretch.first, stretch.behind)
    before = find_covering(store, chain, stretch.first, starts) if leads else None
    if before:
        yield before
    yield from read_segments(store, chain, starts)


def find_covering(store: ObjectStore, chain: ChainId, first: int, starts: Sequence[int]) -> Covered | None:
    """Returns the offsets of the segment that starts before an offset and covers it; None if one starts there.

    `starts` are the sorted starts of the segments from this offset on.

    Raises:
        LedgerError: That segment cannot be read.
    """
    before = None if first in starts[:1] else last_segment_before(store, chain, first)
    return Covered(before.start, before.end) if before else None
