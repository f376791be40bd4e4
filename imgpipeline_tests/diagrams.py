"""The diagrams of the documentation: what imports what, and the assets (docs/architecture.md).

`python -m imgpipeline_tests.diagrams` writes them. An arrow that others imply is left out: where `cli` imports
`lake` and `lake` imports `ledger`, there is no arrow from `cli` to `ledger`.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import dagster as dg
import grimp

from imgpipeline.definitions import defs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
DIAGRAMS = ("imgpipeline", "imgpipeline.lake")
"""The packages whose parts are shown."""
_LEFT_OUT = {"definitions", "errors", "faultpoints"}
"""The module that Dagster loads, and two that every part may import."""
Imports = dict[str, frozenset[str]]


def imports_of(package: str) -> Imports:
    """Returns the parts of a package, each with the other parts that it imports."""
    graph = grimp.build_graph("imgpipeline", cache_dir=None)
    parts = {child for child in graph.find_children(package) if child.rpartition(".")[2] not in _LEFT_OUT}
    for part in parts:
        graph.squash_module(part)
    return {
        part.rpartition(".")[2]: frozenset(
            imported.rpartition(".")[2]
            for imported in graph.find_modules_directly_imported_by(part)
            if imported in parts and imported != part
        )
        for part in sorted(parts)
    }


def without_implied(imports: Mapping[str, frozenset[str]]) -> Imports:
    """Returns the imports without those that a longer path implies.

    Raises:
        graphlib.CycleError: Parts import each other.
    """
    below: dict[str, frozenset[str]] = {}
    for part in TopologicalSorter(imports).static_order():
        below[part] = imports[part].union(*(below[imported] for imported in imports[part]))
    return {part: imported - frozenset().union(*(below[one] for one in imported)) for part, imported in imports.items()}


def mermaid(imports: Mapping[str, frozenset[str]]) -> str:
    """Returns a diagram in which an arrow points from a part to one that it imports."""
    arrows = [f"    {part} --> {one}" for part, imported in imports.items() for one in sorted(imported)]
    return "\n".join(["```mermaid", "flowchart TD", *arrows, "```"])


def asset_diagram(definitions: dg.Definitions) -> str:
    """Returns a diagram of the assets by group, in which an arrow points from an asset to those made from it."""
    graph = definitions.resolve_asset_graph()
    parents = {
        key.to_user_string(): frozenset(parent.to_user_string() for parent in graph.get(key).parent_keys)
        for key in graph.toposorted_asset_keys
    }
    groups: dict[str, list[str]] = defaultdict(list)
    for key in graph.toposorted_asset_keys:
        groups[graph.get(key).group_name or "default"].append(key.to_user_string())
    lines = ["```mermaid", "flowchart LR"]
    for group, names in groups.items():
        lines += [
            f"    subgraph group_{group} [{group.replace('_', ' ')}]",
            *(f"        {name}" for name in names),
            "    end",
        ]
    drawn = without_implied(parents)
    lines += [f"    {parent} --> {name}" for name in parents for parent in sorted(drawn[name])]
    return "\n".join([*lines, "```"])


def with_diagrams(page: str) -> str:
    """Returns docs/architecture.md with the diagrams as they are now.

    Raises:
        ValueError: The page has no place for a diagram.
    """
    diagrams = {f"imports of {package}": mermaid(without_implied(imports_of(package))) for package in DIAGRAMS}
    for name, diagram in {**diagrams, "assets": asset_diagram(defs)}.items():
        first, last = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        place = re.compile(f"(?<={re.escape(first)}).*?(?={re.escape(last)})", re.DOTALL)
        page, found = place.subn(lambda _, text=diagram: text, page)
        if found != 1:
            raise ValueError(f"docs/architecture.md has {found} places for the {name}; expected 1")
    return page


if __name__ == "__main__":
    PAGE.write_text(with_diagrams(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
