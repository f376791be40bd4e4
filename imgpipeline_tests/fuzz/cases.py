"""What a hostile record or file is, and what may become of it."""

import random
from collections import Counter
from dataclasses import dataclass, field

from imgpipeline.errors import DeadLetterCode

FRAME = "FRAME"
"""The outcome of what is good."""
ANY_CODE = frozenset({FRAME, *(code.value for code in DeadLetterCode)} - {"PROCESS_CRASHED", "BAD_ROW"})
"""For what was damaged at random: any outcome, but an outcome."""


@dataclass(frozen=True, slots=True)
class HostileRecord:
    """One Kafka record that was made to harm, or that looks so."""

    kind: str
    """What is special about it, a few words."""
    expected: frozenset[str]
    """Outcomes that are right: codes of dead letters, or `FRAME`."""
    value: bytes | None
    key: bytes | None = b"camera"
    headers: tuple[tuple[str, bytes], ...] = ()
    has_time: bool = True
    """Whether the record has a time of its own."""


@dataclass(frozen=True, slots=True)
class HostileImage:
    """One image file that is damaged, or looks so."""

    kind: str
    """What was done to it, a few words."""
    expected: frozenset[str]
    """Outcomes that are right: codes of dead letters, or `FRAME`."""
    data: bytes


@dataclass(slots=True)
class Tally:
    """The outcomes of all cases so far."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each kind ended in each outcome."""
    violations: list[str] = field(default_factory=list)
    """What should not have happened."""

    def add(self, kind: str, outcome: str, expected: frozenset[str], what: object) -> None:
        """Notes one outcome, and a violation where it is not among the right ones."""
        self.outcomes[kind, outcome] += 1
        if outcome not in expected:
            self.violations.append(f"{kind}: {outcome}, expected {' or '.join(sorted(expected))}: {str(what)[:300]}")

    def by_outcome(self) -> Counter[str]:
        """Returns how often each outcome came."""
        return sum((Counter({outcome: n}) for (_, outcome), n in self.outcomes.items()), Counter[str]())


def only(*codes: str) -> frozenset[str]:
    """Returns the outcomes of a case."""
    return frozenset(codes)


def any_text(rng: random.Random, most: int = 12) -> str:
    """Returns text that can be stored, with what is awkward in paths, SQL, HTML and terminals."""
    letters = "abcXYZ019 -_.,;:'\"`<>&$%{}[]()|~^éßñ中文日本😀👩‍🔬\u2028\u202e\ufeff\x7f\n\t"
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, most)))
