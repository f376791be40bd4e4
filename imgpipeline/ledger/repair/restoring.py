"""Restores damaged and removed segments from their bundles, byte for byte.

No outcome changes, so the bundles stay valid and no repair mark is needed. As in every repair, an object is replaced
only in the version that was found damaged, and put only if none exists.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from imgpipeline.contracts.keys import OFFSET_LIMIT, ChainId, segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger import DayIndex
from imgpipeline.ledger.bundles.format import BundledSegment
from imgpipeline.ledger.bundles.stored import (
    OpenBundle,
    WrongBundle,
    discard,
    find_bundles,
    open_bundled,
    put_mark,
    try_open,
)
from imgpipeline.ledger.repair.damage import (
    NO_SEGMENT,
    BrokenStretch,
    ChainDamage,
    DamagedObject,
    RepairStep,
    first_step,
)
from imgpipeline.ledger.repair.mending import keep_bytes
from imgpipeline.ledger.repair.repair_list import DaysToBuild, close_repair, open_repair
from imgpipeline.ledger.segment import SegmentHeader
from imgpipeline.objectstore import ObjectMissingError, ObjectStore


@dataclass(frozen=True, slots=True)
class LostSegment:
    """A damaged or removed segment that a bundle still has."""

    header: SegmentHeader
    """The segment's header."""
    data: bytes
    """The whole object."""
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
    notes: DaysToBuild
    """Notes the days of a segment before it is restored."""
    progress: Callable[[int], None]
    """Called with the number of restored outcomes."""
    dry_run: bool
    """Only report what would be restored."""
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
        """Removes a bundle that differs from its segments; the mark stops readers even if this process dies."""
        bundle = wrong.stored.bundle
        if not self.dry_run:
            # Followers may have read the outcomes in the bundle instead of those in the segments.
            opened = open_repair(self.store, self.chain, bundle.first, bundle.behind, ())
            put_mark(self.store, self.chain, bundle.first, bundle.behind)
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
        self.notes.cover(lost.header.days)
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
            self.steps.append(first_step(self.chain, start, start, lost.over, kept, source="bundle"))
        self.steps[-1] = self.steps[-1].with_segment(lost.header)


def find_lost(store: ObjectStore, stretch: BrokenStretch) -> Iterator[LostSegment]:
    """Yields the segments of a broken range that are in bundles, in order.

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
    # Removed segments cannot be listed, so look for the bundles of all ranges up to the end of the stretch.
    for stored in find_bundles(store, chain, stretch.start, behind, OFFSET_LIMIT).values():
        bundle = try_open(store, stored)
        for segment in bundle.segments if bundle else ():
            fits = stretch.start <= segment.start and (stretch.end is None or segment.end <= stretch.end)
            if bundle and fits and segment.start < behind:
                yield from _read(store, bundle, segment, over.get(segment.start))


def without(stretch: BrokenStretch, lost: Sequence[SegmentHeader]) -> list[BrokenStretch]:
    """Returns the rest of a broken range after some of its segments are restored.

    Args:
        stretch: Offsets without a readable outcome.
        lost: Headers of the restored segments, in order.
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
