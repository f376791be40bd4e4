"""Finds damage in a chain: objects that are no longer segments, and offsets that no segment covers.

A segment of a newer format, or two segments for one offset, are errors rather than damage, because the ledger does not
say how to repair them. `RepairStep` is what `ledger repair` reports for each damaged range.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from imgpipeline.contracts.keys import OFFSET_LIMIT, ChainId, segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.reading import BundleCheck, WrongBundle
from imgpipeline.ledger.reading import list_segments, open_segment
from imgpipeline.ledger.segment import DamagedSegmentError, SegmentHeader
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

NO_SEGMENT = "no segment is there"
"""`RepairStep.found` for a removed segment."""


@dataclass(frozen=True, slots=True)
class DamagedObject:
    """An object below `metadata/` that has the key of a segment but is not one."""

    key: str
    start: int
    """Start of the segment according to the key."""
    data: bytes
    e_tag: str
    why: str


@dataclass(frozen=True, slots=True)
class BrokenStretch:
    """Offsets of a chain without a readable outcome, between two intact segments."""

    chain: ChainId
    start: int
    """End of the intact segment before the stretch; 0 if there is none."""
    end: int | None
    """Start of the next intact segment; None if there is none, so the end is unknown."""
    objects: tuple[DamagedObject, ...]
    """The damaged objects, by start; empty if the segments were removed."""
    before: SegmentHeader | None
    behind: SegmentHeader | None


@dataclass(frozen=True, slots=True)
class ChainDamage:
    """The damage of one chain."""

    stretches: tuple[BrokenStretch, ...]
    covered: tuple[DamagedObject, ...]
    """Damaged objects at offsets that an intact segment covers. Nothing is lost with them, but they stop readers."""
    bundles: tuple[WrongBundle, ...] = ()
    """Bundles that readers use but that differ from the segments."""

    @property
    def is_none(self) -> bool:
        """Whether the chain is intact."""
        return not (self.stretches or self.covered or self.bundles)


def find_damage(store: ObjectStore, chain: ChainId) -> ChainDamage:
    """Reads every segment of a chain and finds the damage.

    A removed last segment leaves no trace: the chain then ends where the previous segment ends, and the next run
    continues there.

    Raises:
        LedgerError: A segment has another format version, or two segments cover one offset.
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
                f"{segment_key(chain, found.start)} covers offsets up to {position} that an earlier segment covers "
                "too. The ledger does not say which of the two is right.",
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
    looked = map_ahead(lambda start: _look(store, chain, start), starts)
    yield from (found for found in looked if found is not None)


def _look(store: ObjectStore, chain: ChainId, start: int) -> SegmentHeader | DamagedObject | None:
    """Returns the header or the damage of an object; None if it was removed after it was listed."""
    key = segment_key(chain, start)
    try:
        fetched = store.fetch(key)
    except ObjectMissingError:
        return None
    try:
        return open_segment(fetched.data, key).header
    except DamagedSegmentError as error:
        return DamagedObject(key, start, fetched.data, fetched.e_tag, error.message)


@dataclass(frozen=True, slots=True)
class RepairStep:
    """One range of offsets, and how it is repaired."""

    chain: ChainId
    key: str
    """Key of the first segment in the range."""
    start: int
    end: int
    """First offset after the range; equal to `start` if only an object was removed."""
    found: str
    source: str
    """Source of the outcomes: `bundle` (unchanged), `kafka`, `gap` or `kafka and gap`; `removed` if only an object was
    removed."""
    kept: str | None = None
    """Key of the copy of the damaged bytes; None if there were none, or nothing was done."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """The result of a repair or of its dry run."""

    steps: tuple[RepairStep, ...]
    days: tuple[date, ...]
    """Days whose tables are stale now."""
    blocked: tuple[str, ...] = ()
    """Chains that could not be repaired, each with the reason."""


def step_of(
    chain: ChainId, start: int, end: int, bad: DamagedObject | None, source: str, kept: str | None = None
) -> RepairStep:
    """Returns the step for a range with at most one damaged object, at its start."""
    return RepairStep(chain, segment_key(chain, start), start, end, bad.why if bad else NO_SEGMENT, source, kept)
