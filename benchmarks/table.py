"""One table of text, and whether a goal was met."""

from collections.abc import Sequence
from dataclasses import dataclass

_MET, _MISSED = "met", "**missed**"


@dataclass(frozen=True, slots=True)
class Table:
    """One table of text."""

    columns: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells; as many a row as there are columns."""
    caption: str = ""
    """A line above it; empty: none."""

    def render(self) -> str:
        """Returns the table in Markdown, its columns aligned so that it can be read in a terminal too."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.columns))]
        drawn = [_draw(line, widths) for line in lines]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([*([self.caption, ""] if self.caption else []), drawn[0], rule, *drawn[1:]])


def _draw(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def at_least(value: float, goal: float) -> str:
    """Says whether a value is as great as it should be."""
    return f"≥ {goal:g}: " + (_MET if value >= goal else _MISSED)


def at_most(value: float, goal: float, text: str) -> str:
    """Says whether a value stays below a goal, which the text names."""
    return f"{text}: " + (_MET if value < goal else _MISSED)
