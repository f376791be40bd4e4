"""Puts outcomes into the broken range of a chain without giving any offset a second one.

Before its first put it keeps the damaged bytes, puts a repair mark, so that nobody reads these offsets through an older
bundle, and adds an entry to the repair list, so that followers read them again. A damaged object is replaced only in
the version that was read; a removed one is put create-only. A repair that dies can be continued by the next one.

Between two intact segments the range is known. After the last intact one it is not: only the damaged object said where
it ended, and a paused writer may still know that and continue there. So each offset gets a segment of its own: wherever
that writer continues, it meets a segment and loses, or its segment is met and the rest is left to it. Meanwhile a
*lid*, an object that is not a segment, lies under the last of these offsets, so that no run finds an end in the middle.
The lid is replaced last. docs/repair.md has the whole picture.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from itertools import pairwise
from uuid import uuid4

from imgpipeline.contracts.keys import ChainId, damaged_copy_key, segment_key
from imgpipeline.contracts.outcomes import Gap, Outcome, offsets_of
from imgpipeline.errors import TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.bundles.catalog import put_mark
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import read_segment
from imgpipeline.ledger.repair.damage import BrokenStretch, DamagedObject
from imgpipeline.ledger.repair.repair_list import close_repair, open_repair
from imgpipeline.ledger.segment import (
    DamagedSegmentError,
    Fingerprint,
    Provenance,
    SegmentHeader,
    describe,
    encode_segment,
)
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

LID = b"imgpipeline ledger repair: until this offset has its outcome, nobody goes on behind it.\n"
"""What lies under the last offset of a tail that is being mended."""


_MOST_RECORDS = 1000
_LONGEST_SINGLY = 10_000
"""A longer stretch without records is kept in one piece: it would be millions of segments in a compacted topic."""

Made = tuple[Outcome, Fingerprint | None]
"""An outcome, and the fingerprint of its record; None for a gap."""


class ChainChangedError(TransientError):
    """Another writer has written to the range under repair: search for the damage again."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Offsets that are repaired together; at most the first of them has a damaged object."""

    start: int
    """First offset."""
    end: int
    """First offset behind it."""
    is_tail: bool = False
    """Whether each offset needs a segment of its own."""


@dataclass(frozen=True, slots=True)
class Mended:
    """A segment that was put."""

    piece: Piece
    """What it belongs to."""
    bad: DamagedObject | None
    """What lay under the first offset of the piece; None if nothing did."""
    kept: str | None
    """Where the bad bytes are kept."""
    outcomes: list[Outcome]
    """What the segment holds."""


def is_lid(damaged: DamagedObject) -> bool:
    """Returns whether an object is the lid of a tail under repair, or of an interrupted repair."""
    return damaged.data == LID


def pieces_of(stretch: BrokenStretch, tail_end: int) -> list[Piece]:
    """Returns the pieces to put for a broken range, in order.

    Args:
        stretch: Offsets without outcomes.
        tail_end: Where it ends if no intact segment follows.
    """
    starts = sorted({stretch.start, *(found.start for found in stretch.objects)})
    if stretch.end is not None:
        return [Piece(a, b) for a, b in pairwise([*starts, stretch.end])]
    # Under a lid, it is unknown which of the offsets before it the damaged object had: all of them are tail.
    under_lid = is_lid(stretch.objects[-1])
    return [*(Piece(a, b, under_lid) for a, b in pairwise(starts)), Piece(starts[-1], tail_end, True)]


@dataclass(slots=True)
class Mender:
    """Puts segments into the broken places of one chain."""

    store: ObjectStore
    """The object store."""
    chain: ChainId
    """Which chain."""
    made_by: Provenance
    """By what the outcomes are made."""
    clock: Callable[[], datetime]
    """Tells the time."""
    index: DayIndex
    """The day index of this repair."""
    fingerprint: Fingerprint | None
    """Of the last record before what is put next."""

    def mend(
        self,
        stretch: BrokenStretch,
        pieces: Sequence[Piece],
        make: Callable[[Piece], Iterator[Made]],
        before_put: Callable[[list[Outcome]], None],
        *,
        days: Iterable[date] = (),
    ) -> Iterator[Mended]:
        """Puts outcomes for a broken range.

        Args:
            stretch: What is broken.
            pieces: What is to be put for it (`pieces_of`).
            make: Makes the outcomes of a piece, in order.
            before_put: Called with the outcomes of each segment before it is put.
            days: The days that the stretch touched before, as far as is known: followers read them in the repair list.

        Yields:
            Each segment, after it was put.

        Raises:
            ChainChangedError: Somebody else has written there.
            TransientError: The store does not answer.
        """
        over = {found.start: found for found in stretch.objects}
        last = pieces[-1]
        reach("mend mark", segment_key(self.chain, stretch.start))
        put_mark(self.store, self.chain, stretch.start, last.end)
        behind = None if stretch.end is None else last.end
        opened, touched = open_repair(self.store, self.chain, stretch.start, behind, days), set[date]()
        if last.is_tail and last.end - 1 not in over:
            over[last.end - 1] = self._close_tail(last.end)
        for piece in pieces:
            bad = over.get(piece.start)
            kept = keep_bytes(self.store, self.chain, bad) if bad and not is_lid(bad) else None
            made = singly(make(piece)) if piece.is_tail else make(piece)
            for outcomes, mark in chunks(made, 1 if piece.is_tail else _MOST_RECORDS):
                before_put(outcomes)
                self._put(outcomes, mark, over.get(offsets_of(outcomes[0])[0]))
                touched.update(o.day for o in outcomes if not isinstance(o, Gap) and o.day)
                yield Mended(piece, bad, kept, outcomes)
        close_repair(self.store, opened, touched)

    def remove_covered(self, damaged: DamagedObject) -> str | None:
        """Removes a damaged object whose offset is covered by an intact segment before it: no writer can use that key.

        Returns:
            Where its bytes are kept; None for a lid.
        """
        kept = None if is_lid(damaged) else keep_bytes(self.store, self.chain, damaged)
        self.store.delete(damaged.key)
        return kept

    def _close_tail(self, end: int) -> DamagedObject:
        """Puts the lid under the last offset before `end`, where nothing may lie yet; returns it.

        Raises:
            ChainChangedError: A segment is there.
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

        Args:
            outcomes: What it holds, without hole or overlap.
            fingerprint: Of the last record among them; None if there is none.
            over: What it replaces; None if nothing is there.

        Raises:
            ChainChangedError: Somebody else's segment is there.
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
        reach("mend put", key)
        put = self.store.replace(key, data, over.e_tag) if over else self.store.create(key, data)
        reach("mend put done", key)
        if not (put or self._is_there(key, header)):
            raise ChainChangedError(f"{key} was put by another writer while the chain was being repaired.")

    def _is_there(self, key: str, header: SegmentHeader) -> bool:
        """Whether this very segment is there: a client repeats a request whose answer was lost."""
        try:
            return read_segment(self.store, key).header == header
        except (DamagedSegmentError, ObjectMissingError):
            return False


def keep_bytes(store: ObjectStore, chain: ChainId, damaged: DamagedObject) -> str:
    """Keeps the bytes of a damaged object aside and returns their key; keeping them again changes nothing."""
    key = damaged_copy_key(chain, damaged.start, sha256(damaged.data).hexdigest()[:16])
    store.put(key, damaged.data)
    return key


def chunks(made: Iterator[Made], most: int) -> Iterator[tuple[list[Outcome], Fingerprint | None]]:
    """Yields outcomes as segments hold them, each with the fingerprint of its last record.

    Args:
        made: In order.
        most: How many a segment holds at most.
    """
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
    """Yields gaps offset by offset, except very long ones; the rest as it is."""
    for outcome, fingerprint in made:
        if isinstance(outcome, Gap) and outcome.end - outcome.start <= _LONGEST_SINGLY:
            yield from ((Gap(n, n + 1, outcome.reason), None) for n in range(outcome.start, outcome.end))
        else:
            yield outcome, fingerprint
