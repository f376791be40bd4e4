"""Putting damaged and removed segments back from their bundles, byte for byte.

No outcome changes, so the bundles stay valid and no repair mark is needed. The conditions are those of every mending:
an object is replaced only in the version that was found damaged, and put only where nothing is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from imgpipeline.contracts.keys import ChainId
from imgpipeline.detect.repair_steps import RepairStep
from imgpipeline.faultpoints import reach
from imgpipeline.lake.build.repair_notes import DaysToBuild
from imgpipeline.ledger import DayIndex
from imgpipeline.ledger.bundles.catalog import put_mark
from imgpipeline.ledger.bundles.checking import WrongBundle
from imgpipeline.ledger.bundles.opening import discard
from imgpipeline.ledger.bundles.restoring import LostSegment, find_lost, without
from imgpipeline.ledger.damage import BrokenStretch, ChainDamage
from imgpipeline.ledger.mending import keep_bytes
from imgpipeline.ledger.repairs import close_repair, open_repair
from imgpipeline.ledger.segment import SegmentHeader
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_GONE = "no segment is there"


@dataclass(slots=True)
class Restoring:
    """Puts back what bundles have of one chain."""

    store: ObjectStore
    """The object store."""
    chain: ChainId
    """Which chain."""
    notes: DaysToBuild
    """The days of what is put back are noted here before."""
    progress: Callable[[int], None]
    """Called with the outcomes that were put back."""
    dry_run: bool
    """Only say what would be put back."""
    steps: list[RepairStep] = field(default_factory=list)
    """What was put back, or would be: neighbouring segments in one step."""

    def restore(self, damage: ChainDamage) -> ChainDamage:
        """Removes bundles that are wrong, and puts back what the others have; returns what is left to be mended.

        Raises:
            TransientError: The store does not answer.
        """
        for wrong in damage.bundles:
            self._withdraw(wrong)
        left = [rest for stretch in damage.stretches for rest in self._restore(stretch)]
        return replace(damage, stretches=tuple(left), bundles=())

    def _withdraw(self, wrong: WrongBundle) -> None:
        """Removes a bundle that differs from its segments; the mark keeps readers from it, wherever this ends."""
        bundle = wrong.stored.bundle
        if not self.dry_run:
            # Followers may have read what the bundle had in place of the segments.
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
                    return [stretch]  # somebody else has written there: whoever mends it notices, and looks again
            self._tell(lost, kept, is_next=bool(back) and back[-1].end == lost.header.start)
            back.append(lost.header)
        return without(stretch, back)

    def _put(self, lost: LostSegment) -> bool:
        """Puts one segment back; returns whether it is there."""
        self.notes.cover(lost.header.days)
        DayIndex(self.store).cover(lost.header)
        reach("restore put", lost.key)
        if lost.over:
            put = self.store.replace(lost.key, lost.data, lost.over.e_tag)
        else:
            put = self.store.create(lost.key, lost.data)
        reach("restore put done", lost.key)
        self.progress(lost.header.end - lost.header.start)
        return put or self._is_there(lost)

    def _is_there(self, lost: LostSegment) -> bool:
        try:
            return self.store.get(lost.key) == lost.data
        except ObjectMissingError:
            return False

    def _tell(self, lost: LostSegment, kept: str | None, *, is_next: bool) -> None:
        header = lost.header
        counts = (header.frames + header.gated, header.dead_letters, sum(header.gaps.values()))
        notices = header.notices
        if is_next and lost.over is None and self.steps[-1].found == _GONE:
            last = self.steps[-1]
            frames, letters, gaps = (
                a + b for a, b in zip((last.frames, last.dead_letters, last.gaps), counts, strict=True)
            )
            self.steps[-1] = replace(last, end=header.end, frames=frames, dead_letters=letters, gaps=gaps,
                                     notices=last.notices + notices)  # fmt: skip
            return
        why = lost.over.why if lost.over else _GONE
        step = RepairStep(
            self.chain, lost.key, header.start, header.end, why, "bundle", *counts, kept=kept, notices=notices
        )
        self.steps.append(step)
