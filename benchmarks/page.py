"""docs/performance.md: its figures are written by this module from the JSON of one run, and by nothing else."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables import tables_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
FIGURES = PAGE.with_suffix(".json")
"""The run whose figures the page shows."""
_PLACE = re.compile(r"(<!-- figures: (?P<name>\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_NOTHING = "Not measured in this run.\n"


def render_page(page: str, results: Mapping[str, Any]) -> str:
    """Writes the figures of a run between the page's markers.

    Args:
        page: The page with `<!-- figures: NAME -->` … `<!-- end of figures -->`.
        results: The run's document.

    Returns:
        The page with these figures and no older ones.
    """
    drawn = {name: "\n\n".join(table.render() for table in tables) for name, tables in tables_of(results).items()}

    def fill(place: "re.Match[str]") -> str:
        figures = drawn.get(place["name"])
        return f"{place[1]}{figures + chr(10) if figures else _NOTHING}{place[3]}"

    return _PLACE.sub(fill, page)
