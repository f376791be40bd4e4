"""Reads chains: which chains exist, where they end, and their segments.

The search for the last segment only lists keys. One listing returns 1,000 keys, so a folder of 100,000 segments is
searched in growing steps and by halving. A wrong hint costs requests, but does not change the result. The end itself is
read from the header of that segment. Many segments are read in parallel, with a few at a time in memory.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

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
from imgpipeline.ledger.segment import DamagedSegmentError, Segment, SegmentHeader, decode_segment
from imgpipeline.objectstore import ObjectInfo, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

PAGE_KEYS = 1_000
"""Number of keys that S3 returns per request."""
_LOOK_BACK = (64, PAGE_KEYS, 4 * PAGE_KEYS, 16 * PAGE_KEYS)
"""Distances before a hint at which the search starts. The last segment usually starts shortly before a hint, even if
the hint is the chain's end: the segments of a steady stream are short, those of a backlog are about 1,000 offsets long.
A listing without keys costs little."""
_BEHIND_ALL = 10**20
"""Greater than any offset."""


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """The end of a chain when it was read."""

    chain: ChainId
    offset: int
    """First offset without an outcome, where the next segment starts."""
    header: SegmentHeader | None
    """Header of the last segment; None if the chain is empty or the header was not read (`find_end`)."""
    last: Position | None = field(default=None, compare=False)
    """The last segment as a position; None if the chain is empty or its writer has added a segment."""
    damage: DamagedSegmentError | None = field(default=None, compare=False)
    """Why the last segment cannot be read. Then `offset` is the second of that segment: the end is there or later."""

    @property
    def hint(self) -> int | None:
        """Start of the last segment, where a later search may start."""
        return self.header.start if self.header else None

    @property
    def is_closed(self) -> bool:
        """Whether the chain is closed (`chain.close_chain`)."""
        return self.header is not None and GapReason.CLOSED.value in self.header.gaps


def read_segment(store: ObjectStore, key: str) -> Segment:
    """Reads one segment.

    Raises:
        ObjectMissingError: There is no object with this key.
        LedgerError: The segment is damaged, has an unknown version, or belongs to another key.
    """
    return open_segment(store.get(key), key)


def open_segment(data: bytes, key: str, *, is_verified: bool = False) -> Segment:
    """Decodes a segment and checks that its header matches the key; arguments as for `decode_segment`.

    Raises:
        LedgerError: The segment is damaged, has an unknown version, or belongs to another key.
    """
    segment = decode_segment(data, key, is_verified=is_verified)
    header = segment.header
    if header.end <= header.start or segment_key(header.chain, header.start) != key:
        raise DamagedSegmentError(f"The segment {key} says it is {header.chain} [{header.start}, {header.end}).")
    return segment


def find_end(store: ObjectStore, chain: ChainId, *, hint: int | None = None, known: Position | None = None) -> ChainEnd:
    """Finds the end of a chain from its last segment.

    The search starts at `hint`, the expected end of the chain, at best the start of its last segment. A wrong hint
    costs a few requests. `known` is a position from an earlier read, instead of a hint: if the chain still ends there
    with the same segment, the segment is not read again.

    Returns:
        The end with its header, or with the known position.

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
    start = _last_start_before(store, chain, offset)
    return None if start is None else read_segment(store, segment_key(chain, start)).header


def _last_start_before(store: ObjectStore, chain: ChainId, offset: int) -> int | None:
    # Segments are mostly short, so look nearby first, then in the rest of the folder, then in the folders before it.
    for reach in (1_000, 10_000, FAN_OUT_OFFSETS):
        starts = list_segments(store, chain, max(offset - reach, 0), offset)
        if starts or reach >= offset:
            return starts[-1] if starts else None
    for name in reversed(store.list_folders(chain_prefix(chain))):
        if name.isdecimal() and int(name) <= (offset - FAN_OUT_OFFSETS) // FAN_OUT_OFFSETS:
            starts = list_segments(store, chain, int(name) * FAN_OUT_OFFSETS, (int(name) + 1) * FAN_OUT_OFFSETS)
            if starts:
                return starts[-1]
    return None


def list_chains(store: ObjectStore, topic: str | None = None) -> list[ChainId]:
    """Returns all chains, of one topic or of all, sorted."""

    def below(names: Iterable[str]) -> Iterator[str]:
        listed = list(names)
        found = map_ahead(lambda name: store.list_folders(f"{METADATA}/{name}"), listed)
        return (f"{name}/{folder}" for name, folders in zip(listed, found, strict=True) for folder in folders)

    paths = (path.split("/") for path in below(below([topic] if topic else store.list_folders(METADATA))))
    return sorted(ChainId(name, topic_id, int(number)) for name, topic_id, number in paths if number.isdecimal())


def fix_ends(
    store: ObjectStore,
    hints: Mapping[ChainId, int] | None = None,
    *,
    known: Mapping[ChainId, Position] | None = None,
) -> dict[ChainId, ChainEnd]:
    """Reads the ends of all chains, several at a time. They define one state of the ledger for later reads.

    Hints and known positions are those of `find_end`; there may be some for any chain. A damaged last segment does not
    stop this: it is before the fixed end of its chain, so only readers of its range get the error.
    """
    return find_ends(store, list_chains(store), hints, known=known)


def find_ends(
    store: ObjectStore,
    chains: Collection[ChainId],
    hints: Mapping[ChainId, int] | None = None,
    *,
    known: Mapping[ChainId, Position] | None = None,
) -> dict[ChainId, ChainEnd]:
    """Finds the ends of chains, several at a time; of those whose last segment is damaged as for `fix_ends`."""
    hints, known = hints or {}, known or {}

    def find(chain: ChainId) -> ChainEnd:
        try:
            return find_end(store, chain, hint=hints.get(chain), known=known.get(chain))
        except DamagedSegmentError as error:
            last = find_last(store, chain)
            return ChainEnd(chain, last.start + 1 if last else 0, None, damage=error)

    return {end.chain: end for end in map_ahead(find, chains)}


def list_segments(store: ObjectStore, chain: ChainId, first: int, behind: int) -> list[int]:
    """Returns the starts of a chain's segments in `[first, behind)`, sorted."""
    return [start for start, _ in list_sizes(store, chain, first, behind)]


def list_covering(store: ObjectStore, chain: ChainId, first: int, behind: int) -> list[int]:
    """Returns the sorted starts of the segments that hold the offsets `[first, behind)`.

    If none starts at `first`, the last one before it comes first; whether it reaches up to there is not known.
    """
    starts = list_segments(store, chain, first, behind)
    before = None if first in starts[:1] else _last_start_before(store, chain, first)
    return starts if before is None else [before, *starts]


def list_sizes(store: ObjectStore, chain: ChainId, first: int, behind: int) -> list[tuple[int, int]]:
    """Returns start and size in bytes of a chain's segments that start in `[first, behind)`, sorted."""
    found: list[tuple[int, int]] = []
    for folder in _folders(store, chain, first, behind):
        after = segment_key(chain, first - 1) if first else None
        # All keys in later folders are greater than `after`, so it is valid for each folder.
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
    """Yields segments in the order of `starts`, reading a few ahead.

    Closing the generator early ends the reading ahead when the reads in progress are finished.

    Raises:
        LedgerError: A segment cannot be read.
        ObjectMissingError: A segment is missing.
    """
    keys = (segment_key(chain, start) for start in starts)
    return map_ahead(lambda key: read_segment(store, key), keys)


@dataclass(frozen=True, slots=True, order=True)
class ListedSegment:
    """A segment in a listing."""

    start: int
    e_tag: str


def find_last(store: ObjectStore, chain: ChainId, *, hint: int | None = None) -> ListedSegment | None:
    """Returns the last segment of a chain; None for an empty chain.

    A wrong hint costs a few requests.
    """
    behind = _BEHIND_ALL
    if hint is not None and hint >= 0 and store.lists_in_order:
        for back in _LOOK_BACK:
            first = max(hint - back, 0)
            found = _search(store, chain, chain_prefix(chain), first, behind, is_bounded=behind < _BEHIND_ALL)
            if found is not None:
                return found
            behind = first
    for folder in reversed(_folders_before(store, chain, behind)):
        prefix, first = f"{chain_prefix(chain)}/{folder}", int(folder) * FAN_OUT_OFFSETS
        if store.lists_in_order:
            found = _search(store, chain, prefix, first, min(behind, first + FAN_OUT_OFFSETS))
        else:
            found = _list_all(store, chain, prefix, hint or 0)
        if found is not None:
            return found
    return None


def _folders_before(store: ObjectStore, chain: ChainId, behind: int) -> list[str]:
    names = store.list_folders(chain_prefix(chain))
    return [name for name in names if name.isdecimal() and int(name) * FAN_OUT_OFFSETS < behind]


def _search(
    store: ObjectStore, chain: ChainId, prefix: str, low: int, behind: int, *, is_bounded: bool = False
) -> ListedSegment | None:
    """Returns the last segment below a prefix in `[low, behind)`, or None; there is none from `behind` on.

    Goes up in doubling steps while listings are full, then halves the rest. With `is_bounded`, `behind` comes from a
    listing instead of being an upper limit, so the search halves from the start.
    """
    last, at, step = None, low, 0
    while low < behind:
        found, is_full = _list_page(store, chain, prefix, at)
        if is_full and not found:
            return _list_all(store, chain, prefix, 0)  # there are 1,000 objects that are not segments
        if not found:
            behind, is_bounded = at, True
        else:
            last, low = found[-1], found[-1].start + 1
            if not is_full:
                break
        if is_bounded:
            at = low if behind - low <= PAGE_KEYS else (low + behind) // 2
        else:
            at = min(low + step, behind - 1)
            step = 2 * step or PAGE_KEYS
    return last


def _list_page(store: ObjectStore, chain: ChainId, prefix: str, first: int) -> tuple[list[ListedSegment], bool]:
    """Returns the sorted segments of one listing from an offset on, and whether there may be more."""
    page = list(islice(store.list_objects(prefix, after=_just_before(chain, first)), PAGE_KEYS))
    return sorted(_segments(page)), len(page) == PAGE_KEYS


def _list_all(store: ObjectStore, chain: ChainId, prefix: str, first: int) -> ListedSegment | None:
    """Returns the last segment in a folder by listing all of it, for stores that do not list in order.

    Leaves out keys before `first`, unless there are no others.
    """
    last = max(_segments(store.list_objects(prefix, after=_just_before(chain, first))), default=None)
    return _list_all(store, chain, prefix, 0) if last is None and first else last


def _segments(infos: Iterable[ObjectInfo]) -> list[ListedSegment]:
    return [ListedSegment(parsed[1], info.e_tag) for info in infos if (parsed := parse_segment_key(info.key))]


def _just_before(chain: ChainId, offset: int) -> str | None:
    return segment_key(chain, offset - 1) if offset else None


def segments_holding(
    store: ObjectStore, chain: ChainId, offsets: Collection[int]
) -> Iterator[tuple[Segment, tuple[int, ...]]]:
    """Yields the segments that contain given offsets of a chain, each with its offsets, in order.

    Raises:
        LedgerError: No segment contains an offset, or a segment cannot be read.
    """
    if not offsets:
        return
    starts = list_covering(store, chain, min(offsets), max(offsets) + 1)
    held: dict[int, list[int]] = defaultdict(list)
    for offset in sorted(offsets):
        place = bisect_right(starts, offset) - 1
        if place < 0:
            raise _nowhere(chain, offset)
        held[starts[place]].append(offset)
    for segment, wanted in zip(read_segments(store, chain, held), held.values(), strict=True):
        outside = [offset for offset in wanted if offset >= segment.header.end]
        if outside:
            raise _nowhere(chain, outside[0])
        yield segment, tuple(wanted)


def _nowhere(chain: ChainId, offset: int) -> LedgerError:
    return LedgerError(
        f"No segment of {chain} holds the offset {offset}.",
        next_step="run `imgpipeline audit --full`, because a segment is missing",
    )


def hole_in_chain(chain: ChainId, position: int, found: int | None) -> LedgerError:
    """Returns the error for a chain with a hole.

    The next segment starts at `found`; None if there is none.
    """
    next_start = "there is no later one" if found is None else f"the next one starts at {found}"
    return LedgerError(
        f"The chain {chain} has a hole: no segment starts at {position}, where the previous one ends; {next_start}.",
        next_step="run `imgpipeline ledger repair --dry-run`; a segment was removed from the store",
    )
