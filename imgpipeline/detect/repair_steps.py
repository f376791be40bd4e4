"""What `ledger repair` tells of its work: one step for each stretch of offsets.

Owns the values and their counting. The work itself belongs to `repair`, showing it to `cli`.
"""

from dataclasses import dataclass, replace
from datetime import date

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Gap, Outcome
from imgpipeline.ledger.damage import DamagedObject
from imgpipeline.ledger.mending import Piece


@dataclass(frozen=True, slots=True)
class RepairStep:
    """One stretch of offsets, and what becomes of it."""

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
    """Offsets that lie in gaps now."""
    kept: str | None = None
    """Where the bad bytes are kept; None where there were none, or nothing was done."""
    notices: int = 0
    """Offsets that are notices now."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair has done, or would do."""

    steps: tuple[RepairStep, ...]
    """In order."""
    days: tuple[date, ...]
    """Days whose tables were built again."""
    waiting: str | None = None
    """Why noted days cannot be built yet: something else is broken; None where nothing waits."""
    blocked: tuple[str, ...] = ()
    """Chains that could not be mended, each with the reason, while others were."""


def step_of(chain: ChainId, piece: Piece, bad: DamagedObject | None, kept: str | None) -> RepairStep:
    """Returns what is begun: nothing is counted yet."""
    found = bad.why if bad else "no segment is there"
    return RepairStep(chain, segment_key(chain, piece.start), piece.start, piece.end, found, "kafka", kept=kept)


def counted(step: RepairStep, outcomes: list[Outcome]) -> RepairStep:
    """Returns a step with the outcomes of one more segment."""
    gaps = sum(o.end - o.start for o in outcomes if isinstance(o, Gap)) + step.gaps
    frames = sum(isinstance(o, Frame) for o in outcomes) + step.frames
    letters = sum(isinstance(o, DeadLetter) for o in outcomes) + step.dead_letters
    notices = sum(isinstance(o, Notice) for o in outcomes) + step.notices
    made_of = "kafka" if not gaps else "kafka and gap" if frames or letters or notices else "gap"
    return replace(step, frames=frames, dead_letters=letters, notices=notices, gaps=gaps, source=made_of)
