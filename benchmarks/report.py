"""What was measured, as tables of text: for the terminal, for the JSON file, and for docs/performance.md."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
FIGURES = PAGE.with_suffix(".json")
"""The tables that the page shows."""
_PLACE = re.compile(r"(<!-- figures: (?P<name>\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_NOTHING = "Not measured in this run.\n"
_MET, _MISSED = "met", "**missed**"


@dataclass(frozen=True, slots=True)
class Table:
    """One table of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    """A line above it; empty: none."""

    def render(self) -> str:
        """Returns the table in Markdown, its columns aligned so that it can be read in a terminal too."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.columns))]
        drawn = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        ]
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([*([self.caption, ""] if self.caption else []), drawn[0], rule, *drawn[1:]])

    def to_json(self) -> dict[str, Any]:
        """Returns the table as one JSON object."""
        return asdict(self)


Results = Mapping[str, Sequence[Table]]
"""Tables by the benchmark's name, and of the `machine`."""


def read_results(data: Mapping[str, Any]) -> Results:
    """Reads the JSON file that `python -m benchmarks --json` writes."""
    return {name: [Table(**table) for table in tables] for name, tables in data.items()}


def render_page(page: str, results: Results) -> str:
    """Writes the tables between the page's markers: `<!-- figures: NAME -->` … `<!-- end of figures -->`.

    Returns:
        The page with these figures and no older ones.
    """
    drawn = {name: "\n\n".join(table.render() for table in tables) for name, tables in results.items()}

    def fill(place: "re.Match[str]") -> str:
        figures = drawn.get(place["name"])
        return f"{place[1]}{figures + chr(10) if figures else _NOTHING}{place[3]}"

    return _PLACE.sub(fill, page)


def at_least(value: float, goal: float) -> str:
    """Returns whether a value is as great as it should be."""
    return f"≥ {goal:g}: " + (_MET if value >= goal else _MISSED)


def at_most(value: float, goal: float, text: str) -> str:
    """Returns whether a value stays below a goal, which the text names."""
    return f"{text}: " + (_MET if value < goal else _MISSED)


def left_out(reasons: Sequence[str]) -> list[Table]:
    """Returns the table of what could not be measured here; none if everything was."""
    return [Table(("left out, because",), [(reason,) for reason in reasons])] if reasons else []
