"""Measures contenders in turns, so that whatever else the machine does affects all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from benchmarks.place import say

Figures = Mapping[str, Any]
"""What a contender did in one round, by name."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """One contender divided by another, within each round."""

    median: float
    least: float
    greatest: float

    @property
    def spread(self) -> str:
        """The least and the greatest one as text."""
        return f"{self.least:.2f} to {self.greatest:.2f}"


@dataclass(frozen=True, slots=True)
class Rounds:
    """What all contenders did, one entry per round."""

    figures: Mapping[str, list[Figures]]

    def median(self, who: str, figure: str) -> float:
        """Returns the median of a contender's figure."""
        return median(float(each[figure]) for each in self.figures[who])

    def ratio(self, who: str, other: str, figure: str) -> Ratio:
        """Returns a contender's figure divided by another's, round by round."""
        pairs = zip(self.figures[who], self.figures[other], strict=True)
        ratios = [float(ours[figure]) / float(theirs[figure]) for ours, theirs in pairs]
        return Ratio(median(ratios), min(ratios), max(ratios))


def take_turns(contenders: Mapping[str, Callable[[], Figures]], rounds: int, *, shown: str = "") -> Rounds:
    """Lets each contender work once in each round; every second round runs in the reverse order.

    Args:
        contenders: What is measured, by name.
        rounds: How often.
        shown: Figure that is reported on stderr after each turn; empty: none.
    """
    figures: dict[str, list[Figures]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders.items())
        for name, work in reversed(order) if number % 2 else order:
            figures[name].append(work())
            if shown:
                say(f"  {name}: {figures[name][-1][shown]:.2f} {shown}")
    return Rounds(figures)


def spread(values_s: list[float]) -> dict[str, float]:
    """Returns how times are distributed: `count`, `p50_s`, `p95_s`, `longest_s`."""
    cuts = quantiles(values_s, n=20, method="inclusive") if len(values_s) > 1 else [values_s[0]] * 19
    return {"count": len(values_s), "p50_s": cuts[9], "p95_s": cuts[18], "longest_s": max(values_s)}
