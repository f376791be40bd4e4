"""Following the ledger: everything after a checkpoint, in bounded batches that carry the next checkpoint.

    for batch in follow(store, checkpoint):
        with transaction():
            forget(batch.forgotten)
            add(batch.segments)
            save(batch.checkpoint)

Chains take turns, so none starves another. A follower that saves each checkpoint together with its result gets at most
one batch twice, wherever it dies. A repair changes outcomes that a follower has already read, so its range is read
again, and its first batch says which offsets to forget.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import accumulate

from imgpipeline.contracts.keys import BUNDLE_OFFSETS, ChainId, segment_key
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.reading import FoundSegment, Unit, read_checked
from imgpipeline.ledger.bundles.stored import StoredBundle, find_bundles
from imgpipeline.ledger.checkpoint import Checkpoint, Position, mark_of
from imgpipeline.ledger.reading import (
    ChainEnd,
    find_end,
    for_each_chain,
    hole_in_chain,
    last_segment_before,
    list_chains,
    list_sizes,
    read_segment,
    read_segments,
)
from imgpipeline.ledger.repair.repair_list import Repair, last_handled, list_repairs
from imgpipeline.ledger.segment import SegmentHeader
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

_TURN_SEGMENTS = 256
"""Maximum number of segments in one turn of a chain; a turn through a bundle has all segments of the bundle."""
_TURN_BYTES = 2**20
"""Compressed size of the segments in one turn, small because several turns are in memory."""
_TURNS_AHEAD = 8
_BATCH_BYTES = 32 * 2**20


class LostCheckpointError(LedgerError):
    """A checkpoint does not match this ledger, so its follower must start again from an empty checkpoint."""


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Offsets of a chain."""

    chain: ChainId
    first: int
    behind: int
    """First offset after the range; `OFFSET_LIMIT` for all offsets from `first` on."""

    def covers(self, chain: ChainId, offset: int) -> bool:
        """Returns whether the range contains an offset of a chain."""
        return chain == self.chain and self.first <= offset < self.behind


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of a follower."""

    segments: tuple[FoundSegment, ...]
    """Segments of any chains; those of one chain in order."""
    forgotten: tuple[OffsetRange, ...]
    """Offsets whose earlier outcomes are no longer valid. Forget them before adding the segments."""
    days: tuple[date, ...]
    """UTC days that the repairs of `forgotten` have touched, sorted."""
    checkpoint: Checkpoint

    def outcomes(self) -> Iterator[tuple[ChainId, Outcome]]:
        """Yields the outcomes of all whole segments, in order."""
        for followed in self.segments:
            if followed.segment is not None:
                for outcome in followed.segment.outcomes():
                    yield followed.chain, outcome


def follow(
    store: ObjectStore,
    checkpoint: Checkpoint,
    *,
    ends: Mapping[ChainId, ChainEnd] | None = None,
    headers_only: bool = False,
    batch_segments: int = 256,
) -> Iterator[Batch]:
    """Yields the segments after a checkpoint, up to the current ends of the chains.

    Reads through bundles where possible. If a segment cannot be read, its chain is followed up to that segment, and the
    error is raised after all other chains have been followed to their ends.

    Args:
        store: The object store.
        checkpoint: How far this follower has read; an empty one to start at the beginning of the ledger.
        ends: Ends of all chains, fixed after the checkpoint was made. Default: read them now.
        headers_only: Do not fetch segments whose days are known from a bundle's footer.
        batch_segments: Maximum number of segments in a batch.

    Yields:
        Batches; none if nothing is new.

    Raises:
        LostCheckpointError: The checkpoint does not match this ledger.
        LedgerError: A segment or an entry of the repair list cannot be read, or a chain has a hole.
        TransientError: The store does not answer.
    """
    following = _Following(store, dict(checkpoint.chains), checkpoint.repairs, headers_only, batch_segments)
    following.fix_ends(ends)
    yield from following.read_again()
    yield from following.read_on()
    if following.problems:
        raise next(iter(following.problems.values()))


@dataclass(slots=True)
class _Following:
    """One call of `follow`."""

    store: ObjectStore
    positions: dict[ChainId, Position]
    repairs: int
    headers_only: bool
    batch_segments: int
    ends: dict[ChainId, ChainEnd] = field(default_factory=dict)
    bundles: dict[ChainId, dict[int, StoredBundle]] = field(default_factory=dict)
    problems: dict[ChainId, LedgerError] = field(default_factory=dict)
    _held: list[FoundSegment] = field(default_factory=list)
    _held_bytes: int = 0

    def fix_ends(self, ends: Mapping[ChainId, ChainEnd] | None) -> None:
        """Fixes the ends for this call and checks that every chain of the checkpoint still exists."""
        self.ends = dict(ends) if ends is not None else self._find_ends()
        gone = sorted(self.positions.keys() - self.ends.keys() - self.problems.keys())
        if gone:
            raise _lost(f"the chain {gone[0]} is gone")
        same = {chain: end.last for chain, end in self.ends.items() if end.last and chain in self.positions}
        self.positions |= {chain: last for chain, last in same.items() if last.is_at(self.positions[chain])}

    def _find_ends(self) -> dict[ChainId, ChainEnd]:
        def find(chain: ChainId) -> ChainEnd | LedgerError:
            position = self.positions.get(chain)
            try:
                return find_end(self.store, chain, known=position)
            except LedgerError as error:
                return error

        chains = list_chains(self.store)
        found = dict(zip(chains, for_each_chain(chains, find), strict=True))
        self.problems |= {chain: end for chain, end in found.items() if isinstance(end, LedgerError)}
        return {chain: end for chain, end in found.items() if isinstance(end, ChainEnd)}

    def read_again(self) -> Iterator[Batch]:
        """Yields the ranges before the positions that were repaired."""
        entries = list_repairs(self.store, after=self.repairs)
        self._check_chains(entries)
        number = last_handled(entries, after=self.repairs)
        days: dict[OffsetRange, set[date]] = {}
        for entry in entries:
            days.setdefault(OffsetRange(entry.chain, entry.first, entry.behind), set()).update(entry.days)
        for repaired in sorted(days, key=lambda r: (r.chain, r.first)):
            position = self.positions.get(repaired.chain)
            if repaired.chain in self.ends and position is not None and repaired.first < position.end:
                try:
                    yield from self._read_range(repaired, position, tuple(sorted(days[repaired])))
                except LedgerError as error:
                    self.problems[repaired.chain] = error
        if self.problems.keys() & {repaired.chain for repaired in days}:
            return  # keep the old number, so that the next call reads these repairs again
        if number != self.repairs:
            self.repairs = number
            yield Batch((), (), (), self._checkpoint())

    def _read_range(self, repaired: OffsetRange, position: Position, days: tuple[date, ...]) -> Iterator[Batch]:
        chain, end = repaired.chain, self.ends[repaired.chain]
        before = last_segment_before(self.store, chain, repaired.first + 1)
        first = before.start if before and before.end > repaired.first else repaired.first
        stop = min(repaired.behind, position.end, end.offset)
        yield Batch((), (OffsetRange(chain, first, repaired.behind),), days, self._checkpoint())
        last: FoundSegment | None = None
        at = first
        while at < stop:
            for last in self._read_turn(chain, at, stop):
                yield from self._hold(last)
            at = last.end if last else stop
        if last is not None and repaired.behind >= position.end:
            # A repair may have joined segments across the position, or ended the chain before it.
            self.positions[chain] = self._position_after(last)
        yield from self._flush()

    def _check_chains(self, repairs: list[Repair]) -> None:
        """Fails if the last segment before a position was replaced and no repair explains it."""
        moved = [chain for chain, position in self.positions.items() if chain in self.ends]
        same = for_each_chain(moved, self._is_same)
        wrong = [chain for chain, is_same in zip(moved, same, strict=True) if not is_same]
        if wrong:
            repairs = repairs + list_repairs(self.store, after=self.repairs + len(repairs))
        for chain in wrong:
            position = self.positions[chain]
            ranges = (OffsetRange(repair.chain, repair.first, repair.behind) for repair in repairs)
            if not any(r.covers(chain, position.start) or r.covers(chain, position.end - 1) for r in ranges):
                raise _lost(f"the segment of {chain} at {position.start} was replaced")

    def _is_same(self, chain: ChainId) -> bool:
        position, end = self.positions[chain], self.ends[chain]
        if end.offset < position.end or end.last is None:
            return False
        if not position.mark:
            return True
        if end.last.start == position.start:
            return end.last.mark == position.mark
        try:
            return mark_of(read_segment(self.store, segment_key(chain, position.start)).header) == position.mark
        except ObjectMissingError:
            return False
        except LedgerError:
            return True  # damaged since it was read; not this follower's business

    def read_on(self) -> Iterator[Batch]:
        """Yields the segments after the positions; the chains take turns."""
        behind = [chain for chain in sorted(self.ends) if self._lag(chain) and chain not in self.problems]
        self.bundles = dict(zip(behind, for_each_chain(behind, self._find_bundles), strict=True))
        while behind:
            short = {chain for chain in behind if not self._has_bundle(chain)}
            for turn in map_ahead(self._take_turn, sorted(short), workers=_TURNS_AHEAD, ahead=_TURNS_AHEAD):
                yield from self._advance(turn)
            for chain in (chain for chain in behind if chain not in short):
                yield from self._stream_bundle(chain)
            behind = [chain for chain in behind if self._lag(chain) and chain not in self.problems]
        yield from self._flush()

    def _stream_bundle(self, chain: ChainId) -> Iterator[Batch]:
        try:
            for found in self._read_turn(chain, self._position(chain), self.ends[chain].offset):
                yield from self._advance([found])
        except LedgerError as error:
            self.problems[chain] = error

    def _advance(self, turn: list[FoundSegment]) -> Iterator[Batch]:
        for found in turn:
            self.positions[found.chain] = self._position_after(found)
            yield from self._hold(found)

    def _position_after(self, found: FoundSegment) -> Position:
        position, last = Position(found.end, found.start, found.mark), self.ends[found.chain].last
        return last if last and last.is_at(position) else position

    def _take_turn(self, chain: ChainId) -> list[FoundSegment]:
        """Returns the segments of one turn, up to the first one that cannot be read."""
        found: list[FoundSegment] = []
        try:
            found.extend(self._read_turn(chain, self._position(chain), self.ends[chain].offset))
        except LedgerError as error:
            self.problems[chain] = error
        return found

    def _read_turn(self, chain: ChainId, first: int, stop: int) -> Iterator[FoundSegment]:
        """Yields the segments of one turn, at least one, without holes from `first` on."""
        last = self.ends[chain].header
        bundle = self.bundles.get(chain, {}).get(first // BUNDLE_OFFSETS)
        behind = min((first // BUNDLE_OFFSETS + 1) * BUNDLE_OFFSETS, stop)
        if last is not None and last.start == first:
            found = self._read_last(last)
        elif bundle is not None:
            unit = Unit(chain, first, behind, self.ends[chain].offset, bundle)
            found = read_checked(self.store, [unit], lambda _: not self.headers_only)
        else:
            starts = _cut(list_sizes(self.store, chain, first, behind))
            found = (FoundSegment.of(segment.header, segment) for segment in read_segments(self.store, chain, starts))
        position = first
        for segment in found:
            if segment.start != position:
                raise hole_in_chain(chain, position, segment.start)
            position = segment.end
            yield replace(segment, segment=None) if self.headers_only else segment
        if position == first:
            raise hole_in_chain(chain, first, None)

    def _read_last(self, last: SegmentHeader) -> Iterator[FoundSegment]:
        """Yields the last segment of a chain, whose header was read in the search for the end."""
        key = segment_key(last.chain, last.start)
        yield FoundSegment.of(last, None if self.headers_only else read_segment(self.store, key))

    def _find_bundles(self, chain: ChainId) -> dict[int, StoredBundle]:
        end = self.ends[chain].offset
        return find_bundles(self.store, chain, self._position(chain), end, end)

    def _has_bundle(self, chain: ChainId) -> bool:
        return self._position(chain) // BUNDLE_OFFSETS in self.bundles[chain]

    def _position(self, chain: ChainId) -> int:
        position = self.positions.get(chain)
        return position.end if position else 0

    def _lag(self, chain: ChainId) -> bool:
        return self._position(chain) < self.ends[chain].offset

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(dict(self.positions), self.repairs)

    def _hold(self, found: FoundSegment) -> Iterator[Batch]:
        self._held.append(found)
        self._held_bytes += len(found.segment.body) if found.segment else 0
        if len(self._held) >= self.batch_segments or self._held_bytes >= _BATCH_BYTES:
            yield from self._flush()

    def _flush(self) -> Iterator[Batch]:
        if self._held:
            segments, self._held, self._held_bytes = tuple(self._held), [], 0
            yield Batch(segments, (), (), self._checkpoint())


def _cut(listed: list[tuple[int, int]]) -> list[int]:
    """Returns the starts of the segments in one turn, given starts and sizes."""
    sizes = accumulate(size for _, size in listed)
    fitting = sum(1 for size in sizes if size <= _TURN_BYTES)
    return [start for start, _ in listed[: max(1, min(fitting, _TURN_SEGMENTS))]]


def _lost(why: str) -> LostCheckpointError:
    return LostCheckpointError(
        f"The checkpoint does not match this ledger: {why}.",
        next_step="start again from an empty checkpoint",
    )
