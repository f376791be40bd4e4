"""The picture in the README matches the definitions, and shows every asset and dependency."""

from xml.etree import ElementTree as ET

import pytest

from imgpipeline.definitions import defs
from imgpipeline_tests.defs.site import REPOSITORY
from imgpipeline_tests.graph_picture import draw_graph, drawn_lines, read_nodes

COMMAND = "python -m imgpipeline_tests.graph_picture imgpipeline.definitions > docs/lineage.svg"


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
