"""What `ledger repair` reports: one step for each range of offsets."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Gap, Outcome
from imgpipeline.ledger.repair.damage import DamagedObject
from imgpipeline.ledger.segment import SegmentHeader

NO_SEGMENT = "no segment is there"
"""What was found where an object was removed."""


@dataclass(frozen=True, slots=True)
class RepairStep:
    """One range of offsets, and what the repair does with it."""

    chain: ChainId
    """The chain."""
    key: str
    """Key of the segment that it begins with."""
    start: int
    """First offset."""
    end: int
    """First offset behind it; equal to `start` where only an object was in the way."""
    found: str
    """What was wrong there, for a person."""
    source: str
    """What the outcomes are made of: `bundle` (as they were), `kafka`, `gap` or `kafka and gap`; `removed` where an
    object was in the way."""
    frames: int = 0
    """Offsets that are frames now."""
    dead_letters: int = 0
    """Offsets that are dead letters now."""
    gaps: int = 0
    """Offsets that are in gaps now."""
    kept: str | None = None
    """Where the bad bytes are kept; None if there were none, or nothing was done."""
    notices: int = 0
    """Offsets that are notices now."""

    def with_outcomes(self, outcomes: Iterable[Outcome]) -> "RepairStep":
        """Returns the step with the outcomes of one more segment, made from Kafka or recorded as gaps."""
        frames, letters, gaps, notices = self.frames, self.dead_letters, self.gaps, self.notices
        for outcome in outcomes:
            frames += isinstance(outcome, Frame)
            letters += isinstance(outcome, DeadLetter)
            notices += isinstance(outcome, Notice)
            gaps += outcome.end - outcome.start if isinstance(outcome, Gap) else 0
        made_of = "kafka" if not gaps else "kafka and gap" if frames or letters or notices else "gap"
        return replace(self, frames=frames, dead_letters=letters, notices=notices, gaps=gaps, source=made_of)

    def with_segment(self, header: SegmentHeader) -> "RepairStep":
        """Returns the step with one more segment, put back from a bundle; it then ends where that segment ends."""
        return replace(
            self,
            end=header.end,
            frames=self.frames + header.frames + header.gated,
            dead_letters=self.dead_letters + header.dead_letters,
            notices=self.notices + header.notices,
            gaps=self.gaps + sum(header.gaps.values()),
        )


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair has done, or would do."""

    steps: tuple[RepairStep, ...]
    """In order."""
    days: tuple[date, ...]
    """Days whose tables were built again."""
    waiting: str | None = None
    """Why noted days cannot be built yet: something else is broken; None if nothing waits."""
    blocked: tuple[str, ...] = ()
    """Chains that could not be repaired, each with the reason."""


def first_step(
    chain: ChainId, start: int, end: int, bad: DamagedObject | None, kept: str | None, source: str = "kafka"
) -> RepairStep:
    """Returns the step of a range in which nothing is counted yet."""
    return RepairStep(chain, segment_key(chain, start), start, end, bad.why if bad else NO_SEGMENT, source, kept=kept)
