"""Reads chains: which ones exist, where they end, and their segments.

An end is always read from a header. Many segments are read in parallel, with a few at a time in memory.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from imgpipeline.contracts.keys import (
    FAN_OUT_OFFSETS,
    METADATA,
    ChainId,
    chain_prefix,
    fan_out_prefix,
    parse_segment_key,
    segment_key,
)
from imgpipeline.contracts.outcomes import GapReason
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.checkpoint import Position
from imgpipeline.ledger.search import find_last
from imgpipeline.ledger.segment import Segment, SegmentHeader, decode_segment
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

_READERS = 16
_AHEAD = 32
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """How far a chain reaches, as it was read."""

    chain: ChainId
    """The chain."""
    offset: int
    """First offset without an outcome: where the next segment starts."""
    header: SegmentHeader | None
    """Header of the last segment; None for a chain without one, and where it was not read (`find_end`)."""
    last: Position | None = field(default=None, compare=False)
    """The last segment as a position; None for a chain without one, and where the writer of the chain has moved it."""

    @property
    def hint(self) -> int | None:
        """Start of the last segment, where a later search may begin."""
        return self.header.start if self.header else None

    @property
    def is_closed(self) -> bool:
        """Whether the chain is closed for good (`closing`)."""
        return self.header is not None and GapReason.CLOSED.value in self.header.gaps


def read_segment(store: ObjectStore, key: str) -> Segment:
    """Reads one segment.

    Raises:
        ObjectMissingError: There is none under this key.
        LedgerError: It is damaged, of an unknown version, or its header belongs to another key.
    """
    return open_segment(store.get(key), key)


def open_segment(data: bytes, key: str, *, is_verified: bool = False) -> Segment:
    """Reads the bytes of a segment and checks that they belong to a key; arguments as of `decode_segment`.

    Raises:
        LedgerError: They are damaged, of an unknown version, or their header belongs to another key.
    """
    segment = decode_segment(data, key, is_verified=is_verified)
    header = segment.header
    if header.end <= header.start or segment_key(header.chain, header.start) != key:
        raise LedgerError(f"The segment {key} says it is {header.chain} [{header.start}, {header.end}).")
    return segment


def find_end(store: ObjectStore, chain: ChainId, *, hint: int | None = None, known: Position | None = None) -> ChainEnd:
    """Finds the end of a chain by its last segment.

    Args:
        store: The object store.
        chain: Which chain.
        hint: An offset near which the chain is believed to end, at best the start of its last segment; the search
            begins there. A wrong one costs a few requests.
        known: A position that was read before, in place of a hint: while the chain still ends there with the same
            segment, that segment is not read again.

    Returns:
        The end, with the header it was read from, or the position that is known.

    Raises:
        LedgerError: The last segment cannot be read.
    """
    listed = find_last(store, chain, hint=known.start if known else hint)
    if listed is None:
        return ChainEnd(chain, 0, None)
    if known and listed.e_tag and (known.start, known.e_tag) == (listed.start, listed.e_tag):
        return ChainEnd(chain, known.end, None, known)
    header = read_segment(store, segment_key(chain, listed.start)).header
    return ChainEnd(chain, header.end, header, Position.after(header, listed.e_tag))


def last_segment_before(store: ObjectStore, chain: ChainId, offset: int) -> SegmentHeader | None:
    """Returns the header of the last segment that starts before an offset, or None if there is none.

    Raises:
        LedgerError: That segment cannot be read.
    """
    # Segments are mostly short: look close by first, then at the folder's rest, then at whole folders before it.
    for reach in (1_000, 10_000, FAN_OUT_OFFSETS):
        starts = list_segments(store, chain, max(offset - reach, 0), offset)
        if starts:
            return read_segment(store, segment_key(chain, starts[-1])).header
        if reach >= offset:
            return None
    for name in reversed(store.list_folders(chain_prefix(chain))):
        if name.isdecimal() and int(name) <= (offset - FAN_OUT_OFFSETS) // FAN_OUT_OFFSETS:
            found = list_segments(store, chain, int(name) * FAN_OUT_OFFSETS, (int(name) + 1) * FAN_OUT_OFFSETS)
            if found:
                return read_segment(store, segment_key(chain, found[-1])).header
    return None


def list_chains(store: ObjectStore, topic: str | None = None) -> list[ChainId]:
    """Returns all chains, of one topic or of all, sorted."""

    def below(names: Iterable[str]) -> Iterator[str]:
        listed = list(names)
        found = map_ahead(lambda name: store.list_folders(f"{METADATA}/{name}"), listed, workers=_READERS, ahead=_AHEAD)
        return (f"{name}/{folder}" for name, folders in zip(listed, found, strict=True) for folder in folders)

    paths = (path.split("/") for path in below(below([topic] if topic else store.list_folders(METADATA))))
    return sorted(ChainId(name, topic_id, int(number)) for name, topic_id, number in paths if number.isdecimal())


def fix_ends(
    store: ObjectStore,
    hints: Mapping[ChainId, int] | None = None,
    *,
    known: Mapping[ChainId, Position] | None = None,
) -> dict[ChainId, ChainEnd]:
    """Reads the ends of all chains, several at a time: one state of the ledger that later reads can keep to.

    Args:
        store: The object store.
        hints: For some chains an offset near which they are believed to end (`find_end`).
        known: For some chains a position that was read before (`find_end`): they cost one request each, not two.

    Raises:
        LedgerError: The last segment of a chain cannot be read.
    """
    return find_ends(store, list_chains(store), hints, known=known)


def find_ends(
    store: ObjectStore,
    chains: Collection[ChainId],
    hints: Mapping[ChainId, int] | None = None,
    *,
    known: Mapping[ChainId, Position] | None = None,
) -> dict[ChainId, ChainEnd]:
    """Finds the ends of some chains as `find_end` does, several at a time."""
    hints, known = hints or {}, known or {}
    found = for_each_chain(chains, lambda c: find_end(store, c, hint=hints.get(c), known=known.get(c)))
    return {end.chain: end for end in found}


def for_each_chain(chains: Collection[ChainId], read: Callable[[ChainId], Result]) -> Iterator[Result]:
    """Yields what a function reads of each chain, in their order, reading a few ahead."""
    return map_ahead(read, chains, workers=_READERS, ahead=_AHEAD)


def list_segments(store: ObjectStore, chain: ChainId, first: int, behind: int) -> list[int]:
    """Returns the starts of a chain's segments in `[first, behind)`, sorted."""
    return [start for start, _ in list_sizes(store, chain, first, behind)]


def list_sizes(store: ObjectStore, chain: ChainId, first: int, behind: int) -> list[tuple[int, int]]:
    """Returns start and size in bytes of a chain's segments that start in `[first, behind)`, sorted."""
    found: list[tuple[int, int]] = []
    for folder in _folders(store, chain, first, behind):
        after = segment_key(chain, first - 1) if first else None
        # Keys of later folders are all greater than `after`; so it can be given for each of them.
        for info in store.list_objects(f"{chain_prefix(chain)}/{folder}", after=after):
            parsed = parse_segment_key(info.key)
            if parsed and first <= parsed[1] < behind:
                found.append((parsed[1], info.size_bytes))
            elif parsed and parsed[1] >= behind and store.lists_in_order:
                break
    return sorted(found)


def _folders(store: ObjectStore, chain: ChainId, first: int, behind: int) -> list[str]:
    numbers = range(first // FAN_OUT_OFFSETS, max(behind - 1, first) // FAN_OUT_OFFSETS + 1)
    if len(numbers) <= 2:
        return [fan_out_prefix(chain, number * FAN_OUT_OFFSETS).rpartition("/")[2] for number in numbers]
    return [name for name in store.list_folders(chain_prefix(chain)) if name.isdecimal() and int(name) in numbers]


def read_segments(store: ObjectStore, chain: ChainId, starts: Iterable[int]) -> Iterator[Segment]:
    """Yields segments in the order asked for, reading a few ahead.

    Closing the generator early ends the reading ahead, after the few reads that are under way.

    Raises:
        LedgerError: One of them cannot be read.
        ObjectMissingError: One of them is not there.
    """
    keys = (segment_key(chain, start) for start in starts)
    return map_ahead(lambda key: read_segment(store, key), keys, workers=_READERS, ahead=_AHEAD)
