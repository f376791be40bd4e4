"""Finds what is broken in a chain: objects that are no longer segments, and offsets that no segment covers.

A segment of a newer format, or two segments for one offset, are errors rather than damage: repairing those would need
knowledge that the ledger does not hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from imgpipeline.contracts.keys import OFFSET_LIMIT, ChainId, segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.checking import BundleCheck, WrongBundle
from imgpipeline.ledger.reading import list_segments
from imgpipeline.ledger.segment import DamagedSegmentError, SegmentHeader, decode_segment
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

_READERS = 16
_AHEAD = 32


@dataclass(frozen=True, slots=True)
class DamagedObject:
    """An object below `metadata/` that should be a segment and is none."""

    key: str
    """Its key."""
    start: int
    """Where the segment started, by its key."""
    data: bytes
    """The bad bytes."""
    e_tag: str
    """Version of the object in which they were read."""
    why: str
    """What is wrong with them, for a person."""


@dataclass(frozen=True, slots=True)
class BrokenStretch:
    """Offsets of a chain without a readable outcome, between two whole segments."""

    chain: ChainId
    """The chain."""
    start: int
    """Where the whole segment before it ends; 0 if there is none."""
    end: int | None
    """Start of the next intact segment; None if there is none: then the end is unknown."""
    objects: tuple[DamagedObject, ...]
    """The damaged objects, by start; empty if the segments were removed."""
    before: SegmentHeader | None
    """Header of the whole segment before it."""
    behind: SegmentHeader | None
    """Header of the next whole segment."""


@dataclass(frozen=True, slots=True)
class ChainDamage:
    """What is broken in one chain."""

    stretches: tuple[BrokenStretch, ...]
    """Offsets that need an outcome, in order."""
    covered: tuple[DamagedObject, ...]
    """Damaged objects at offsets that a whole segment covers: nothing is lost with them, but they stop readers."""
    bundles: tuple[WrongBundle, ...] = ()
    """Bundles that readers use, but that hold something else than the segments."""

    @property
    def is_none(self) -> bool:
        """Whether nothing is broken."""
        return not (self.stretches or self.covered or self.bundles)


def find_damage(store: ObjectStore, chain: ChainId) -> ChainDamage:
    """Reads every segment of a chain and finds what is broken.

    A removed segment at the very end leaves no trace in a chain: then it ends where the one before ended, and the next
    run continues there.

    Args:
        store: The object store.
        chain: Which chain.

    Raises:
        LedgerError: A segment has an unknown format version, or two segments cover one offset.
        TransientError: The store does not answer.
    """
    stretches: list[BrokenStretch] = []
    covered: list[DamagedObject] = []
    pending: list[DamagedObject] = []
    check = BundleCheck(store, chain)
    position, before = 0, None
    for found in _look_at_all(store, chain):
        if isinstance(found, DamagedObject):
            (covered if found.start < position else pending).append(found)
            continue
        if found.start < position:
            raise LedgerError(
                f"{segment_key(chain, found.start)} covers offsets that a segment before it covers too, up to "
                f"{position}. Which of the two is right cannot be told from the ledger.",
                next_step="run `imgpipeline audit --full`, which names all of them",
            )
        check.take(found)
        if pending or found.start > position:
            stretches.append(BrokenStretch(chain, position, found.start, tuple(pending), before, found))
            pending = []
        position, before = found.end, found
    if pending:
        stretches.append(BrokenStretch(chain, position, None, tuple(pending), before, None))
    return ChainDamage(tuple(stretches), tuple(covered), tuple(check.wrong))


def _look_at_all(store: ObjectStore, chain: ChainId) -> Iterator[SegmentHeader | DamagedObject]:
    starts = list_segments(store, chain, 0, OFFSET_LIMIT)
    looked = map_ahead(lambda start: _look(store, chain, start), starts, workers=_READERS, ahead=_AHEAD)
    yield from (found for found in looked if found is not None)


def _look(store: ObjectStore, chain: ChainId, start: int) -> SegmentHeader | DamagedObject | None:
    """Returns the object under a segment's key; None if it was removed since it was listed."""
    key = segment_key(chain, start)
    try:
        fetched = store.fetch(key)
    except ObjectMissingError:
        return None
    try:
        header = decode_segment(fetched.data, key).header
    except DamagedSegmentError as error:
        return DamagedObject(key, start, fetched.data, fetched.e_tag, error.message)
    if header.end <= header.start or (header.chain, header.start) != (chain, start):
        why = f"The segment {key} says it is {header.chain} [{header.start}, {header.end})."
        return DamagedObject(key, start, fetched.data, fetched.e_tag, why)
    return header
