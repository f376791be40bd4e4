"""Draws the asset graph: a column for each step, a frame for each group, a line for each direct dependency.

`python -m imgpipeline_tests.graph_picture imgpipeline.definitions > docs/lineage.svg` draws the picture in the README.
The same graph gives the same bytes.
"""

import importlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import chain
from statistics import fmean

import dagster as dg

_WIDTH_PX, _HEIGHT_PX = 196, 62
_COLUMN_GAP_PX, _ROW_GAP_PX, _BAND_GAP_PX = 64, 18, 34
_ROW_PX = _HEIGHT_PX + _ROW_GAP_PX
_PADDING_PX, _TITLE_PX, _MARGIN_PX = 16, 26, 14
_COLOURS = {
    "sources": "#0f766e",
    "ledger": "#8a5a00",
    "day_tables": "#1f5fa8",
    "summaries": "#2d7a46",
    "tracks": "#b45309",
    "reports": "#9a2f6b",
}
_OTHER_COLOUR = "#5b4aa8"
_STYLE = (
    "text{font-family:system-ui,sans-serif;fill:#1c1c1a}.name{font:600 14px ui-monospace,monospace}"
    ".small{font-size:11px;fill:#5f5f5b}.group{font:600 13px system-ui,sans-serif}"
    ".line{fill:none;stroke:#a6a6a0;stroke-width:1.5}"
)


@dataclass(frozen=True, slots=True)
class Node:
    """One asset."""

    name: str
    """Its key."""
    group: str
    parents: frozenset[str]
    """The assets that it depends on."""
    kinds: tuple[str, ...]
    """Kinds, sorted."""
    checks: int
    """Number of its asset checks."""
    is_external: bool
    """Whether it is external, so no run materializes it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Position of a box, in pixels from the upper left corner."""

    x: float
    """Left edge."""
    y: float
    """Upper edge."""
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Height at which lines start and end."""
        return self.y + self.height / 2


def read_nodes(definitions: dg.Definitions) -> dict[str, Node]:
    """Returns the assets of definitions by name, each after its inputs."""
    graph = definitions.resolve_asset_graph()
    return {
        key.to_user_string(): Node(
            name=key.to_user_string(),
            group=node.group_name or "default",
            parents=frozenset(parent.to_user_string() for parent in node.parent_keys),
            kinds=tuple(sorted(node.kinds)),
            checks=len(graph.get_check_keys_for_assets({key})),
            is_external=not node.is_materializable,
        )
        for key in graph.toposorted_asset_keys
        for node in [graph.get(key)]
    }


def drawn_lines(nodes: Mapping[str, Node]) -> list[tuple[str, str]]:
    """Returns the dependencies that longer paths do not imply, as (parent, child)."""
    above: dict[str, set[str]] = {}
    for name, node in nodes.items():
        above[name] = set(node.parents).union(*(above[parent] for parent in node.parents))
    return [
        (parent, name)
        for name, node in nodes.items()
        for parent in sorted(node.parents)
        if not any(parent in above[other] for other in node.parents)
    ]


def place_nodes(nodes: Mapping[str, Node]) -> tuple[dict[str, Place], dict[str, Place]]:
    """Returns the places of assets and groups. Groups that share columns are placed below each other."""
    columns = _columns(nodes)
    members: dict[str, list[str]] = defaultdict(list)
    for name, node in nodes.items():
        members[node.group].append(name)
    bands = _bands({group: {columns[name] for name in names} for group, names in members.items()})
    rows = {group: max(Counter(columns[name] for name in names).values()) for group, names in members.items()}
    tops, most = _tops(bands, rows)
    places: dict[str, Place] = {}
    for column in range(max(columns.values()) + 1):
        for group, names in members.items():
            inside = [name for name in names if columns[name] == column]
            inside.sort(key=lambda name: (_mean_height(nodes[name], places), name))
            left = _MARGIN_PX + _PADDING_PX + column * (_WIDTH_PX + _COLUMN_GAP_PX)
            top = tops[bands[group]] + (most[bands[group]] - len(inside)) * _ROW_PX / 2
            for row, name in enumerate(inside):
                places[name] = Place(left, top + row * _ROW_PX, _WIDTH_PX, _HEIGHT_PX)
    return places, {group: _around([places[name] for name in names]) for group, names in members.items()}


def _tops(bands: Mapping[str, int], rows: Mapping[str, int]) -> tuple[dict[int, float], dict[int, int]]:
    """Returns where the first row of each band starts, and how many rows the band has."""
    most = {band: max(rows[group] for group in bands if bands[group] == band) for band in set(bands.values())}
    tops: dict[int, float] = {}
    top = float(_MARGIN_PX + _TITLE_PX + _PADDING_PX)
    for band, count in sorted(most.items()):
        tops[band] = top
        top += count * _ROW_PX - _ROW_GAP_PX + 2 * _PADDING_PX + _TITLE_PX + _BAND_GAP_PX
    return tops, most


def _columns(nodes: Mapping[str, Node]) -> dict[str, int]:
    """Returns the length of the longest path to each asset."""
    columns: dict[str, int] = {}
    for name, node in nodes.items():
        columns[name] = max((columns[parent] + 1 for parent in node.parents), default=0)
    return columns


def _bands(spans: Mapping[str, set[int]]) -> dict[str, int]:
    bands: dict[str, int] = {}
    taken: dict[int, set[int]] = defaultdict(set)
    for group, columns in sorted(spans.items(), key=lambda item: (item[0] not in _COLOURS, min(item[1]), item[0])):
        span = set(range(min(columns), max(columns) + 1))
        band = next(number for number in range(len(spans)) if not span & taken[number])
        bands[group] = band
        taken[band] |= span
    return bands


def _mean_height(node: Node, places: Mapping[str, Place]) -> float:
    return fmean([places[parent].y for parent in node.parents] or [0.0])


def _around(places: Iterable[Place]) -> Place:
    inside = list(places)
    left, top = min(p.x for p in inside) - _PADDING_PX, min(p.y for p in inside) - _PADDING_PX - _TITLE_PX
    right, bottom = max(p.x + p.width for p in inside) + _PADDING_PX, max(p.y + p.height for p in inside) + _PADDING_PX
    return Place(left, top, right - left, bottom - top)


def draw_graph(definitions: dg.Definitions) -> str:
    """Returns the picture of the graph as SVG."""
    nodes = read_nodes(definitions)
    places, groups = place_nodes(nodes)
    width = max(place.x + place.width for place in groups.values()) + _MARGIN_PX
    height = max(place.y + place.height for place in groups.values()) + _MARGIN_PX
    parts = chain(
        (_group(name, place) for name, place in groups.items()),
        (_line(places[parent], places[child], places.values()) for parent, child in drawn_lines(nodes)),
        (_node(node, places[name]) for name, node in nodes.items()),
    )
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = f"<title>The assets and their inputs</title><style>{_STYLE}</style>"
    ground = '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>'
    return "\n".join([head, title, ground, *parts, "</svg>\n"])


def _colour(group: str) -> str:
    return _COLOURS.get(group, _OTHER_COLOUR)


def _box(place: Place) -> str:
    return f'x="{place.x:.0f}" y="{place.y:.0f}" width="{place.width:.0f}" height="{place.height:.0f}"'


def _group(name: str, place: Place) -> str:
    colour = _colour(name)
    return (
        f'<rect {_box(place)} rx="10" fill="{colour}" fill-opacity="0.06" stroke="{colour}" stroke-opacity="0.35"/>'
        f'<text class="group" x="{place.x + _PADDING_PX:.0f}" y="{place.y + 22:.0f}" style="fill:{colour}">'
        f"{escape(name.replace('_', ' '))}</text>"
    )


def _line(parent: Place, child: Place, places: Iterable[Place]) -> str:
    """Draws a line to a box in a later column, through a gap between the boxes in between."""
    between = [place for place in places if parent.x < place.x < child.x]
    x1, y1 = parent.x + parent.width, parent.middle
    x2, y2 = child.x, child.middle
    way = f"M{x1:.0f},{y1:.0f}"
    if between:
        free = _free_height(parent, child, between)
        way += f" {_bend(x1, y1, min(place.x for place in between), free)} "
        x1, y1 = max(place.x + place.width for place in between), free
        way += f"H{x1:.0f}"
    way += f" {_bend(x1, y1, x2 - 6, y2)}"
    return f'<path class="line" d="{way}"/><path fill="#a6a6a0" d="M{x2:.0f},{y2:.0f} l-8,-4 l0,8 z"/>'


def _bend(x1: float, y1: float, x2: float, y2: float) -> str:
    half = (x2 - x1) / 2
    return f"C{x1 + half:.0f},{y1:.0f} {x2 - half:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"


def _free_height(parent: Place, child: Place, between: list[Place]) -> float:
    """Returns the height at which a line passes boxes with the least detour."""
    gap = _ROW_GAP_PX / 2
    heights = [parent.middle, child.middle, *(p.y - gap for p in between), *(p.y + p.height + gap for p in between)]
    free = [y for y in heights if not any(p.y - gap < y < p.y + p.height + gap for p in between)]
    return min(free, key=lambda y: (abs(y - parent.middle) + abs(y - child.middle), y))


def _node(node: Node, place: Place) -> str:
    dashes = ' stroke-dasharray="5 4"' if node.is_external else ""
    checks = f"{node.checks} check{'s' if node.checks != 1 else ''}" if node.checks else ""
    said = " · ".join(filter(None, [" ".join(node.kinds), checks]))
    return (
        f'<rect {_box(place)} rx="8" fill="#ffffff" stroke="{_colour(node.group)}"{dashes}/>'
        f'<text class="name" x="{place.x + 12:.0f}" y="{place.y + 27:.0f}">{escape(node.name)}</text>'
        f'<text class="small" x="{place.x + 12:.0f}" y="{place.y + 47:.0f}">{escape(said)}</text>'
    )


if __name__ == "__main__":
    sys.stdout.write(draw_graph(importlib.import_module(sys.argv[1]).defs))
