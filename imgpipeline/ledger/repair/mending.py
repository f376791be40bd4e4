"""Puts outcomes into the broken ranges of a chain without giving any offset a second one.

Segments that a bundle still has are put back byte for byte (`Restoring`). No outcome changes, so nobody has to know.

For the others (`Mender`), the repair first adds an entry to the repair list, so that followers read these offsets again
and nobody reads them through an older bundle. Then it copies the damaged bytes. It replaces a damaged object only in
the version that it read, and puts a removed one create-only. The next repair continues one that died.

Between two intact segments, the range is known. After the last intact one it is not: only the damaged object contained
the end, and a paused writer may still know the end and continue there. So each offset gets its own segment. Wherever
that writer continues, either it finds a segment and loses, or the repair finds its segment and leaves the rest to it.
Until this is done, a *lid*, an object that is not a segment, has the key of the last of these offsets, so that no run
finds an end in the middle. The lid is replaced last. docs/repair.md explains the whole process.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from hashlib import sha256
from itertools import pairwise
from uuid import uuid4

from imgpipeline.contracts.keys import OFFSET_LIMIT, ChainId, damaged_copy_key, segment_key
from imgpipeline.contracts.outcomes import Gap, Outcome, offsets_of
from imgpipeline.errors import LedgerError, TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.bundles.reading import WrongBundle
from imgpipeline.ledger.bundles.stored import (
    BundledSegment,
    OpenBundle,
    discard,
    find_bundles,
    open_bundled,
    try_open,
)
from imgpipeline.ledger.days import DayIndex, days_of_chain
from imgpipeline.ledger.dead_letters import put_raw_records
from imgpipeline.ledger.repair.damage import (
    NO_SEGMENT,
    BrokenStretch,
    ChainDamage,
    DamagedObject,
    RepairStep,
    step_of,
)
from imgpipeline.ledger.repair.repair_list import close_repair, open_repair
from imgpipeline.ledger.segment import Fingerprint, Provenance, SegmentHeader, describe, encode_segment
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

LID = b"imgpipeline ledger repair: the chain ends here until this offset has its outcome.\n"
"""Content of the object at the last offset of a tail under repair. Stored, so do not change it."""

_MOST_RECORDS = 1000
_LONGEST_SINGLY = 10_000
"""A longer gap stays in one segment, because in a compacted topic it could become millions of segments."""

Made = tuple[Outcome, Fingerprint | None]
"""An outcome, and the fingerprint of its record; None for a gap."""


class ChainChangedError(TransientError):
    """Another writer has written to the range under repair, so the damage must be searched again."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Offsets that are repaired together; only the first one may have a damaged object."""

    start: int
    end: int
    is_tail: bool = False
    """Whether each offset needs its own segment."""


@dataclass(frozen=True, slots=True)
class Mended:
    """A segment that was put."""

    piece: Piece
    bad: DamagedObject | None
    """The damaged object at the first offset of the piece; None if there was none."""
    kept: str | None
    outcomes: list[Outcome]


def is_lid(damaged: DamagedObject) -> bool:
    """Returns whether an object is the lid of a repair in progress or of an interrupted one."""
    return damaged.data == LID


def pieces_of(stretch: BrokenStretch, tail_end: int) -> list[Piece]:
    """Returns the pieces to put for a broken range, in order.

    The range ends at `tail_end` if no intact segment follows.
    """
    starts = sorted({stretch.start, *(found.start for found in stretch.objects)})
    if stretch.end is not None:
        return [Piece(a, b) for a, b in pairwise([*starts, stretch.end])]
    # With a lid, it is unknown which offsets the damaged object covered, so all offsets up to the lid are tail.
    under_lid = is_lid(stretch.objects[-1])
    return [*(Piece(a, b, under_lid) for a, b in pairwise(starts)), Piece(starts[-1], tail_end, True)]


@dataclass(slots=True)
class Mender:
    """Puts segments into the broken ranges of one chain."""

    store: ObjectStore
    chain: ChainId
    made_by: Provenance
    clock: Callable[[], datetime]
    index: DayIndex
    fingerprint: Fingerprint | None
    """Fingerprint of the last record before the next segment."""

    def mend(
        self,
        stretch: BrokenStretch,
        pieces: Sequence[Piece],
        make: Callable[[Piece], Iterator[Made]],
        before_put: Callable[[list[Outcome]], None],
        *,
        days: Iterable[date] = (),
    ) -> Iterator[Mended]:
        """Puts outcomes for the pieces of a broken range (`pieces_of`).

        `make` makes the outcomes of a piece, in order; `before_put` is called with those of each segment. `days` are
        the known days that the range touched before; those of new outcomes are announced as well.

        Yields:
            Each segment, after it was put.

        Raises:
            ChainChangedError: Another writer has written to the range.
            TransientError: The store does not answer.
        """
        over = {found.start: found for found in stretch.objects}
        last = pieces[-1]
        reach("mend mark", segment_key(self.chain, stretch.start))
        behind = OFFSET_LIMIT if stretch.end is None else last.end
        announced = set(days)
        opened = [open_repair(self.store, self.chain, stretch.start, behind, announced)]
        if last.is_tail and last.end - 1 not in over:
            over[last.end - 1] = self._close_tail(last.end)
        for piece in pieces:
            bad = over.get(piece.start)
            kept = keep_bytes(self.store, self.chain, bad) if bad and not is_lid(bad) else None
            made = singly(make(piece)) if piece.is_tail else make(piece)
            for outcomes, mark in chunks(made, 1 if piece.is_tail else _MOST_RECORDS):
                before_put(outcomes)
                new = {o.day for o in outcomes if not isinstance(o, Gap) and o.day} - announced
                if new:
                    announced |= new
                    opened.append(open_repair(self.store, self.chain, stretch.start, behind, new))
                self._put(outcomes, mark, over.get(offsets_of(outcomes[0])[0]))
                yield Mended(piece, bad, kept, outcomes)
        for repair in opened:
            close_repair(self.store, repair)

    def remove_covered(self, damaged: DamagedObject) -> str | None:
        """Removes a damaged object whose offset an intact segment covers, so that no writer can use its key.

        Returns:
            The key of the copy of its bytes; None for a lid.
        """
        kept = None if is_lid(damaged) else keep_bytes(self.store, self.chain, damaged)
        self.store.delete(damaged.key)
        return kept

    def _close_tail(self, end: int) -> DamagedObject:
        """Puts the lid at the last offset before `end`, where no object may exist yet, and returns it.

        Raises:
            ChainChangedError: A segment exists there.
        """
        key = segment_key(self.chain, end - 1)
        reach("lid put", key)
        self.store.create(key, LID)
        fetched = self.store.fetch(key)
        if fetched.data != LID:
            raise ChainChangedError(f"{key} was put while the chain was being repaired.")
        return DamagedObject(key, end - 1, fetched.data, fetched.e_tag, "the lid")

    def _put(self, outcomes: Sequence[Outcome], fingerprint: Fingerprint | None, over: DamagedObject | None) -> None:
        """Puts one segment.

        Raises:
            ChainChangedError: Another writer's segment exists there.
            TransientError: The store does not answer.
        """
        self.fingerprint = fingerprint or self.fingerprint
        header = describe(
            self.chain,
            outcomes,
            provenance=self.made_by,
            writer_id=uuid4().hex,
            fingerprint=self.fingerprint,
            created_at=self.clock(),
        )
        data, key = encode_segment(header, outcomes), segment_key(self.chain, header.start)
        self.index.cover(header)
        put_raw_records(self.store, self.chain, outcomes)
        reach("mend put", key)
        is_stored = self.store.replace_or_own(key, data, over.e_tag if over else None)
        reach("mend put done", key)
        if not is_stored:
            raise ChainChangedError(f"{key} was put by another writer while the chain was being repaired.")


def keep_bytes(store: ObjectStore, chain: ChainId, damaged: DamagedObject) -> str:
    """Copies the bytes of a damaged object and returns the copy's key; a repeated call has no effect."""
    key = damaged_copy_key(chain, damaged.start, sha256(damaged.data).hexdigest()[:16])
    store.put(key, damaged.data)
    return key


def chunks(made: Iterator[Made], most: int) -> Iterator[tuple[list[Outcome], Fingerprint | None]]:
    """Yields the outcomes of each segment with the fingerprint of its last record."""
    held: list[Outcome] = []
    last: Fingerprint | None = None
    for outcome, fingerprint in made:
        held.append(outcome)
        last = fingerprint or last
        if len(held) >= most:
            yield held, last
            held, last = [], None
    if held:
        yield held, last


def singly(made: Iterator[Made]) -> Iterator[Made]:
    """Yields gaps offset by offset, except very long ones; other outcomes unchanged."""
    for outcome, fingerprint in made:
        if isinstance(outcome, Gap) and outcome.end - outcome.start <= _LONGEST_SINGLY:
            yield from ((Gap(n, n + 1, outcome.reason), None) for n in range(outcome.start, outcome.end))
        else:
            yield outcome, fingerprint


@dataclass(frozen=True, slots=True)
class LostSegment:
    """A damaged or removed segment that a bundle still has."""

    header: SegmentHeader
    data: bytes
    over: DamagedObject | None
    """The damaged object in its place; None if there is none."""

    @property
    def key(self) -> str:
        """The segment's key."""
        return segment_key(self.header.chain, self.header.start)


@dataclass(slots=True)
class Restoring:
    """Restores the segments of one chain from bundles."""

    store: ObjectStore
    chain: ChainId
    progress: Callable[[int], None]
    dry_run: bool
    steps: list[RepairStep] = field(default_factory=list)
    """The restored segments, or those that would be; adjacent ones in one step."""

    def restore(self, damage: ChainDamage) -> ChainDamage:
        """Removes wrong bundles, restores segments from the others, and returns the remaining damage.

        Raises:
            TransientError: The store does not answer.
        """
        for wrong in damage.bundles:
            self._withdraw(wrong)
        left = [rest for stretch in damage.stretches for rest in self._restore(stretch)]
        return replace(damage, stretches=tuple(left), bundles=())

    def _withdraw(self, wrong: WrongBundle) -> None:
        """Removes a bundle that differs from its segments; the entry stops readers even if this process dies."""
        bundle = wrong.stored.bundle
        if not self.dry_run:
            # Followers and builds may have read the outcomes in the bundle instead of those in the segments.
            days = days_of_chain(self.store, self.chain, bundle.first, bundle.behind)
            opened = open_repair(self.store, self.chain, bundle.first, bundle.behind, days)
            reach("bundle marked", wrong.stored.key)
            discard(self.store, wrong.stored)
            close_repair(self.store, opened)
        self.steps.append(RepairStep(self.chain, wrong.stored.key, wrong.offset, wrong.offset, wrong.why, "removed"))

    def _restore(self, stretch: BrokenStretch) -> list[BrokenStretch]:
        back: list[SegmentHeader] = []
        for lost in find_lost(self.store, stretch):
            kept = None
            if not self.dry_run:
                kept = keep_bytes(self.store, self.chain, lost.over) if lost.over else None
                if not self._put(lost):
                    return [stretch]  # another writer was faster; the repair notices it and searches again
            self._tell(lost, kept, is_next=bool(back) and back[-1].end == lost.header.start)
            back.append(lost.header)
        return without(stretch, back)

    def _put(self, lost: LostSegment) -> bool:
        """Restores one segment; returns whether it exists now."""
        DayIndex(self.store).cover(lost.header)
        reach("restore put", lost.key)
        is_stored = self.store.replace_or_own(lost.key, lost.data, lost.over.e_tag if lost.over else None)
        reach("restore put done", lost.key)
        self.progress(lost.header.end - lost.header.start)
        return is_stored

    def _tell(self, lost: LostSegment, kept: str | None, *, is_next: bool) -> None:
        """Adds a segment to the steps; a removed segment right after another one extends its step."""
        if not (is_next and lost.over is None and self.steps[-1].found == NO_SEGMENT):
            start = lost.header.start
            self.steps.append(step_of(self.chain, start, start, lost.over, "bundle", kept))
        self.steps[-1] = replace(self.steps[-1], end=lost.header.end)


def find_lost(store: ObjectStore, stretch: BrokenStretch) -> Iterator[LostSegment]:
    """Yields the segments of a broken range that are in bundles, in order.

    Raises:
        TransientError: The store does not answer.
    """
    chain, behind = stretch.chain, stretch.end
    if behind is None:
        behind = stretch.objects[-1].start + 1 if stretch.objects else stretch.start
    over = {found.start: found for found in stretch.objects}
    # Removed segments cannot be listed, so look for the bundles of all ranges up to the end of the stretch.
    for stored in find_bundles(store, chain, stretch.start, behind, OFFSET_LIMIT).values():
        bundle = try_open(store, stored)
        for segment in bundle.segments if bundle else ():
            fits = stretch.start <= segment.start and (stretch.end is None or segment.end <= stretch.end)
            if bundle and fits and segment.start < behind:
                yield from _read(store, bundle, segment, over.get(segment.start))


def without(stretch: BrokenStretch, lost: Sequence[SegmentHeader]) -> list[BrokenStretch]:
    """Returns the rest of a broken range after some of its segments are restored.

    `lost` are the headers of the restored segments, in order.
    """
    left: list[BrokenStretch] = []
    start, before = stretch.start, stretch.before
    for header in lost:
        if start < header.start:
            left.append(_part(stretch, start, header.start, before, header))
        start, before = header.end, header
    if stretch.end is None or start < stretch.end:
        rest = _part(stretch, start, stretch.end, before, stretch.behind)
        # After the last segment, only an existing object proves that there was a segment.
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
        return  # repair it as if there were no bundle
    yield LostSegment(header, data, over)
