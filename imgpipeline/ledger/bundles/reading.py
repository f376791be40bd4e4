"""Reads ranges of chains with few requests: through bundles where possible, otherwise from the segments.

The result is the same either way; `BundleCheck` compares both.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import chain as chain_together
from itertools import groupby
from operator import itemgetter

from imgpipeline.contracts.keys import BUNDLE_OFFSETS, OFFSET_LIMIT, ChainId, segment_key
from imgpipeline.errors import LedgerError
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
from imgpipeline.ledger.checkpoint import mark_of
from imgpipeline.ledger.reading import hole_in_chain, list_covering, list_segments, read_segment
from imgpipeline.ledger.segment import Segment, SegmentHeader
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

_BUNDLES_AHEAD = {"workers": 4, "ahead": 4}
"""Footers and pieces of bundles have up to 2 MiB each, so only a few are in memory."""


@dataclass(frozen=True, slots=True)
class FoundSegment:
    """A segment in a chain, which was read or is known from the footer of a bundle."""

    chain: ChainId
    start: int
    end: int
    days: tuple[date, ...]
    segment: Segment | None = None
    """None if only its header or its entry in a footer is known."""
    mark: str = ""
    """See `Position.mark`; empty if it is known from a footer."""

    @classmethod
    def of(cls, header: SegmentHeader, segment: Segment | None = None) -> "FoundSegment":
        """Returns a segment whose header was read."""
        return cls(header.chain, header.start, header.end, header.days, segment, mark_of(header))


Found = FoundSegment | LedgerError | ObjectMissingError
"""A segment, or why it cannot be read; ObjectMissingError: it was removed after it was listed."""
Wanted = Callable[[FoundSegment], bool]
"""Returns whether a segment is to be read whose days are known without reading it. All others are read."""
_Step = Callable[[], Sequence[Found]]


def everything(_: FoundSegment) -> bool:
    """Wants every segment."""
    return True


@dataclass(frozen=True, slots=True)
class Unit:
    """The segments of a chain that start in `[first, stop)`: those in one bundle, or those between bundles."""

    chain: ChainId
    first: int
    stop: int
    end: int
    """The fixed end of the chain; nothing after it is read through a bundle."""
    bundle: StoredBundle | None = None
    leads: bool = False
    """Whether the segment that covers `first` is found, too, if none starts there."""
    last: SegmentHeader | None = None
    """Header of the last segment of the chain, if it was read. If it starts at `first`, nothing is listed."""


def split(
    chain: ChainId, offsets: range, end: int, bundles: Mapping[int, StoredBundle], *, leads: bool = False
) -> Iterator[Unit]:
    """Yields the units of a range of offsets; `leads` is for the first one."""
    at = offsets.start
    for number, bundle in sorted(bundles.items()):
        first, stop = max(number * BUNDLE_OFFSETS, at), min((number + 1) * BUNDLE_OFFSETS, offsets.stop)
        if first < stop:
            if at < first:
                yield Unit(chain, at, first, end, leads=leads and at == offsets.start)
            yield Unit(chain, first, stop, end, bundle, leads=leads and first == offsets.start)
            at = stop
    if at < offsets.stop:
        yield Unit(chain, at, offsets.stop, end, leads=leads and at == offsets.start)


def read_chain(store: ObjectStore, chain: ChainId, first: int, end: int) -> Iterator[Segment]:
    """Yields all segments of a chain that start in `[first, end)`, in order; `end` is the fixed end of the chain.

    Raises:
        LedgerError: A segment cannot be read, or the chain has a hole.
        ObjectMissingError: A segment was removed meanwhile.
    """
    found = read_ranges(store, {chain: [range(first, end)]}, {chain: end})
    return (part.segment for part in found if part.segment)


def read_ranges(
    store: ObjectStore,
    ranges: Mapping[ChainId, Sequence[range]],
    ends: Mapping[ChainId, int],
    wanted: Wanted = everything,
) -> Iterator[FoundSegment]:
    """Yields the segments that start in given ranges of chains, in the order of the chains and offsets.

    The ranges of a chain are sorted, not empty, and do not touch; `ends` has the fixed ends of the chains.

    Raises:
        LedgerError: A segment cannot be read, or an offset of a range is in no segment.
        ObjectMissingError: A segment was removed meanwhile.
    """

    def units(chain: ChainId) -> list[Unit]:
        own, end = ranges[chain], ends[chain]
        bundles = find_bundles(store, chain, own[0].start, own[-1].stop, end)
        return [unit for offsets in own for unit in split(chain, offsets, end, bundles, leads=True)]

    return read_checked(store, chain_together.from_iterable(map_ahead(units, ranges)), wanted)


def read_checked(store: ObjectStore, units: Iterable[Unit], wanted: Wanted) -> Iterator[FoundSegment]:
    """Yields the segments of units like `read_ranges`; units that touch follow each other."""
    position, before = 0, (None, 0)
    for unit, steps in groupby(read_units(store, units, wanted), key=itemgetter(0)):
        if before != (unit.chain, unit.first):
            position = unit.first
        may_start_before = unit.leads
        for part in chain_together.from_iterable(found for _, found in steps):
            if not isinstance(part, FoundSegment):
                raise part
            if part.start > position or (part.start < position and not may_start_before):
                raise hole_in_chain(unit.chain, position, part.start)
            position, may_start_before = part.end, False
            if part.start >= unit.first:
                yield part
        if position < unit.stop:
            raise hole_in_chain(unit.chain, position, unit.stop)
        before = (unit.chain, unit.stop)


def read_units(
    store: ObjectStore, units: Iterable[Unit], wanted: Wanted = everything
) -> Iterator[tuple[Unit, Sequence[Found]]]:
    """Yields what is found in units, in order, one or several times for each unit. Does not check for holes."""
    for is_bundled, group in groupby(units, key=lambda unit: unit.bundle is not None):
        limits = _BUNDLES_AHEAD if is_bundled else {}
        steps = map_ahead(lambda unit: [(unit, step) for step in _plan(store, unit, wanted)], group, **limits)
        yield from map_ahead(lambda step: (step[0], step[1]()), chain_together.from_iterable(steps), **limits)


def _plan(store: ObjectStore, unit: Unit, wanted: Wanted) -> list[_Step]:
    """Returns the steps that read a unit, at least one."""
    bundle = try_open(store, unit.bundle) if unit.bundle else None
    if bundle is not None and bundle.segments[-1].end <= unit.end:
        return list(_plan_bundle(store, unit, bundle, wanted)) or [list]
    if unit.last is not None and unit.last.start == unit.first:
        found, starts = FoundSegment.of(unit.last), [unit.first]
        if not wanted(found):
            return [partial(list, [found])]
    else:
        list_starts = list_covering if unit.leads else list_segments
        starts = list_starts(store, unit.chain, unit.first, unit.stop)
    return [partial(_read_each, store, unit.chain, [start]) for start in starts] or [list]


def _plan_bundle(store: ObjectStore, unit: Unit, bundle: OpenBundle, wanted: Wanted) -> Iterator[_Step]:
    begin = bundle.segments[0].start
    if unit.leads and unit.first < begin:
        # The bundler has checked that the segment before reaches up to here.
        yield partial(list, [FoundSegment(unit.chain, unit.first, begin, ())])
    known = [
        (FoundSegment(unit.chain, segment.start, segment.end, segment.days), segment)
        for segment in bundle.segments
        if segment.end > unit.first and segment.start < unit.stop
    ]
    for is_read, group in groupby(known, key=lambda both: both[0].start >= unit.first and wanted(both[0])):
        found, segments = zip(*group, strict=True)
        if is_read:
            yield from (partial(_read_piece, store, bundle, piece) for piece in neighbours(segments))
        else:
            yield partial(list, found)


def _read_piece(store: ObjectStore, bundle: OpenBundle, piece: Sequence[BundledSegment]) -> list[Found]:
    """Reads adjacent segments of a bundle with one request; if it is not intact, reads the segments themselves."""
    try:
        data = bundle.cut(store, piece[0], piece[-1])
        opened = [open_bundled(bundle.stored, segment, data, piece[0]) for segment in piece]
        return [FoundSegment.of(segment.header, segment) for segment in opened]
    except DamagedBundleError:
        discard(store, bundle.stored)
    except (LedgerError, ObjectMissingError):
        pass
    return _read_each(store, bundle.stored.bundle.chain, [segment.start for segment in piece])


def _read_each(store: ObjectStore, chain: ChainId, starts: Iterable[int]) -> list[Found]:
    found: list[Found] = []
    for start in starts:
        try:
            segment = read_segment(store, segment_key(chain, start))
            found.append(FoundSegment.of(segment.header, segment))
        except (LedgerError, ObjectMissingError) as error:
            found.append(error)
    return found


@dataclass(frozen=True, slots=True)
class WrongBundle:
    """An intact bundle that differs from the segments in the chain."""

    stored: StoredBundle
    offset: int

    @property
    def why(self) -> str:
        """The difference, as text."""
        return f"The bundle {self.stored.key} differs from the segment at offset {self.offset}."


@dataclass(slots=True)
class BundleCheck:
    """Compares the segments of one chain, in order, with those in its bundles.

    Compares only the headers: each has the id of the attempt that wrote it, so equal headers mean equal segments. A
    damaged bundle is removed, and counts as equal.
    """

    store: ObjectStore
    chain: ChainId
    wrong: list[WrongBundle] = field(default_factory=list)
    _bundles: dict[int, StoredBundle] = field(init=False)
    _number: int = -1
    _held: dict[int, SegmentHeader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Lists the readable bundles."""
        self._bundles = find_bundles(self.store, self.chain, 0, OFFSET_LIMIT, OFFSET_LIMIT)

    def take(self, header: SegmentHeader) -> WrongBundle | None:
        """Compares one segment; returns its bundle if this is the first segment in it that differs."""
        number = header.start // BUNDLE_OFFSETS
        if number != self._number:
            self._number = number
            self._held = self._read(self._bundles[number]) if number in self._bundles else {}
        if not self._held or self._held.get(header.start) == header:
            return None
        self._held = {}
        self.wrong.append(WrongBundle(self._bundles[number], header.start))
        return self.wrong[-1]

    def _read(self, stored: StoredBundle) -> dict[int, SegmentHeader]:
        """Returns the header of each segment in a bundle, by start."""
        unit = Unit(self.chain, stored.bundle.first, stored.bundle.behind, OFFSET_LIMIT, stored)
        found = chain_together.from_iterable(parts for _, parts in read_units(self.store, [unit]))
        read = (part.segment.header for part in found if isinstance(part, FoundSegment) and part.segment)
        return {header.start: header for header in read}
