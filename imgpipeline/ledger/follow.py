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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from imgpipeline.contracts.keys import BUNDLE_OFFSETS, ChainId, segment_key
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.reading import Found, FoundSegment, Unit, read_checked, read_units
from imgpipeline.ledger.bundles.stored import StoredBundle, find_bundles
from imgpipeline.ledger.checkpoint import Checkpoint, Position, mark_of
from imgpipeline.ledger.reading import (
    ChainEnd,
    find_ends,
    hole_in_chain,
    last_segment_before,
    list_chains,
    read_segment,
)
from imgpipeline.ledger.repair.repair_list import Repair, last_handled, list_repairs
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

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
    problems: dict[ChainId, LedgerError | ObjectMissingError] = field(default_factory=dict)
    _held: list[FoundSegment] = field(default_factory=list)
    _held_bytes: int = 0

    def fix_ends(self, ends: Mapping[ChainId, ChainEnd] | None) -> None:
        """Fixes the ends for this call and checks that every chain of the checkpoint still exists."""
        found = find_ends(self.store, list_chains(self.store), known=self.positions) if ends is None else ends
        self.problems |= {chain: end.damage for chain, end in found.items() if end.damage}
        self.ends = {chain: end for chain, end in found.items() if not end.damage}
        gone = sorted(self.positions.keys() - self.ends.keys() - self.problems.keys())
        if gone:
            raise _lost(f"the chain {gone[0]} is gone")
        same = {chain: end.last for chain, end in self.ends.items() if end.last and chain in self.positions}
        self.positions |= {chain: last for chain, last in same.items() if last.is_at(self.positions[chain])}

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
        for last in read_checked(self.store, [Unit(chain, first, stop, end.offset)], self._is_wanted):
            yield from self._hold(last)
        if last is not None and repaired.behind >= position.end:
            # A repair may have joined segments across the position, or ended the chain before it.
            self.positions[chain] = self._position_after(last)
        yield from self._flush()

    def _check_chains(self, repairs: list[Repair]) -> None:
        """Fails if the last segment before a position was replaced and no repair explains it."""
        moved = [chain for chain, position in self.positions.items() if chain in self.ends]
        same = map_ahead(self._is_same, moved)
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
        self.bundles = dict(zip(behind, map_ahead(self._find_bundles, behind), strict=True))
        while behind:
            for unit, found in read_units(self.store, map(self._next_unit, behind), self._is_wanted):
                yield from self._take(unit, found)
            behind = [chain for chain in behind if self._lag(chain) and chain not in self.problems]
        yield from self._flush()

    def _next_unit(self, chain: ChainId) -> Unit:
        first, end = self._position(chain), self.ends[chain]
        number = first // BUNDLE_OFFSETS
        stop = min((number + 1) * BUNDLE_OFFSETS, end.offset)
        return Unit(chain, first, stop, end.offset, self.bundles[chain].get(number), last=end.header)

    def _take(self, unit: Unit, found: Sequence[Found]) -> Iterator[Batch]:
        """Takes what was found in the unit that begins at the position of its chain."""
        chain = unit.chain
        if not found:
            self.problems[chain] = hole_in_chain(chain, unit.first, None)
        for part in found:
            if chain in self.problems:
                return
            if not isinstance(part, FoundSegment):
                self.problems[chain] = part
            elif part.start != self._position(chain):
                self.problems[chain] = hole_in_chain(chain, self._position(chain), part.start)
            else:
                self.positions[chain] = self._position_after(part)
                yield from self._hold(part)

    def _position_after(self, found: FoundSegment) -> Position:
        position, last = Position(found.end, found.start, found.mark), self.ends[found.chain].last
        return last if last and last.is_at(position) else position

    def _is_wanted(self, _: FoundSegment) -> bool:
        return not self.headers_only

    def _find_bundles(self, chain: ChainId) -> dict[int, StoredBundle]:
        end = self.ends[chain].offset
        return find_bundles(self.store, chain, self._position(chain), end, end)

    def _position(self, chain: ChainId) -> int:
        position = self.positions.get(chain)
        return position.end if position else 0

    def _lag(self, chain: ChainId) -> bool:
        return self._position(chain) < self.ends[chain].offset

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(dict(self.positions), self.repairs)

    def _hold(self, found: FoundSegment) -> Iterator[Batch]:
        self._held.append(replace(found, segment=None) if self.headers_only else found)
        self._held_bytes += len(found.segment.body) if found.segment and not self.headers_only else 0
        if len(self._held) >= self.batch_segments or self._held_bytes >= _BATCH_BYTES:
            yield from self._flush()

    def _flush(self) -> Iterator[Batch]:
        if self._held:
            segments, self._held, self._held_bytes = tuple(self._held), [], 0
            yield Batch(segments, (), (), self._checkpoint())


def _lost(why: str) -> LostCheckpointError:
    return LostCheckpointError(
        f"The checkpoint does not match this ledger: {why}.",
        next_step="start again from an empty checkpoint",
    )
