"""Populations and plans for the tests of accuracy."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from imgpipeline.accuracy.plans import Place, Population

DAY = date(2026, 1, 9)
NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
CHAIN = "frames/topic-id/0"


def places(first: int, stop: int) -> list[Place]:
    """Return frames of one per second."""
    return [(NOON + timedelta(seconds=number), f"{number:032x}") for number in range(first, stop)]


def population(frames: Sequence[Place], source: str = "gate", runs: dict[int, list[str]] | None = None) -> Population:
    """Return a population of which no plan knows these frames."""
    return Population(DAY, source, {CHAIN: 1_000}, runs or {}, frames)
