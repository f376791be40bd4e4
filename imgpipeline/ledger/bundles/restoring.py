"""Finding in bundles the very bytes that a damaged or removed segment had."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from imgpipeline.contracts.keys import segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.catalog import find_bundles
from imgpipeline.ledger.bundles.format import BundledSegment
from imgpipeline.ledger.bundles.opening import OpenBundle, open_bundled, try_open
from imgpipeline.ledger.damage import BrokenStretch, DamagedObject
from imgpipeline.ledger.segment import SegmentHeader
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_BEHIND_ALL = 2**63


@dataclass(frozen=True, slots=True)
class LostSegment:
    """A segment that is damaged or gone, as a bundle still has it."""

    header: SegmentHeader
    """Its header."""
    data: bytes
    """Its whole object."""
    over: DamagedObject | None
    """What lies in its place; None where nothing does."""

    @property
    def key(self) -> str:
        """Where it belongs."""
        return segment_key(self.header.chain, self.header.start)


def find_lost(store: ObjectStore, stretch: BrokenStretch) -> Iterator[LostSegment]:
    """Yields the segments of a broken stretch that bundles have, in order.

    Args:
        store: The object store.
        stretch: Offsets without a readable outcome.

    Raises:
        TransientError: The store does not answer.
    """
    chain, behind = stretch.chain, stretch.end
    if behind is None:
        behind = stretch.objects[-1].start + 1 if stretch.objects else stretch.start
    over = {found.start: found for found in stretch.objects}
    # Segments cannot be listed where they were removed, so ranges up to the end of the stretch are looked for.
    for stored in find_bundles(store, chain, stretch.start, behind, _BEHIND_ALL).values():
        bundle = try_open(store, stored)
        for segment in bundle.segments if bundle else ():
            fits = stretch.start <= segment.start and (stretch.end is None or segment.end <= stretch.end)
            if bundle and fits and segment.start < behind:
                yield from _read(store, bundle, segment, over.get(segment.start))


def without(stretch: BrokenStretch, lost: Sequence[SegmentHeader]) -> list[BrokenStretch]:
    """Returns what is left of a broken stretch once some of its segments are back.

    Args:
        stretch: Offsets without a readable outcome.
        lost: Headers of segments that lie in it, in order.
    """
    left: list[BrokenStretch] = []
    start, before = stretch.start, stretch.before
    for header in lost:
        if start < header.start:
            left.append(_part(stretch, start, header.start, before, header))
        start, before = header.end, header
    if stretch.end is None or start < stretch.end:
        rest = _part(stretch, start, stretch.end, before, stretch.behind)
        # Behind the last segment, only an object that is there says that something was.
        if stretch.end is not None or rest.objects:
            left.append(rest)
    return left


def _part(
    stretch: BrokenStretch, start: int, end: int | None, before: SegmentHeader | None, behind: SegmentHeader | None
) -> BrokenStretch:
    objects = tuple(o for o in stretch.objects if start <= o.start and (end is None or o.start < end))
    return replace(stretch, start=start, end=end, objects=objects, before=before, behind=behind)


def _read(
    store: ObjectStore, bundle: OpenBundle, segment: BundledSegment, over: DamagedObject | None
) -> Iterator[LostSegment]:
    try:
        data = bundle.cut(store, segment, segment)
        header = open_bundled(bundle.stored, segment, data, segment).header
    except (LedgerError, ObjectMissingError):
        return  # then it is mended as it is without a bundle
    yield LostSegment(header, data, over)
