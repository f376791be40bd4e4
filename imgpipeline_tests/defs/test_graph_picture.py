"""The picture in the README is the one of the definitions, shows every asset and dependency, and nothing overlaps."""

from itertools import combinations
from xml.etree import ElementTree as ET

import pytest

from imgpipeline.definitions import defs
from imgpipeline.defs.graph_picture import Place, draw_graph, drawn_lines, place_nodes, read_nodes
from imgpipeline_tests.defs.site import REPOSITORY

COMMAND = "python -m imgpipeline.defs.graph_picture imgpipeline.definitions > docs/lineage.svg"


@pytest.fixture(scope="module")
def picture() -> str:
    return draw_graph(defs)


def test_the_committed_picture_is_the_one_of_the_definitions(picture: str) -> None:
    assert (REPOSITORY / "docs" / "lineage.svg").read_text(encoding="utf-8") == picture, f"run `{COMMAND}`"
    assert "(docs/lineage.svg)" in (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_every_asset_is_named_in_well_formed_svg(picture: str) -> None:
    texts = [element.text for element in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own
    assert {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()} <= set(texts)


def test_the_lines_say_all_of_what_each_asset_is_made_of() -> None:
    nodes = read_nodes(defs)
    above: dict[str, set[str]] = {name: set() for name in nodes}
    lines = drawn_lines(nodes)
    for name in nodes:
        parents = {parent for parent, child in lines if child == name}
        assert parents <= nodes[name].parents
        above[name] = parents.union(*(above[parent] for parent in parents))
        assert nodes[name].parents <= above[name]


def overlap(one: Place, other: Place) -> bool:
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    below = one.y + one.height <= other.y or other.y + other.height <= one.y
    return not (beside or below)


def test_no_two_boxes_overlap_and_each_asset_is_inside_its_group_alone() -> None:
    nodes = read_nodes(defs)
    places, groups = place_nodes(nodes)
    assert not any(overlap(one, other) for one, other in combinations(places.values(), 2))
    assert not any(overlap(one, other) for one, other in combinations(groups.values(), 2))
    for name, place in places.items():
        assert {group for group, box in groups.items() if overlap(place, box)} == {nodes[name].group}
