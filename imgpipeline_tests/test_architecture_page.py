"""docs/architecture.md and docs/repair.md describe the code as it is: its imports, its parts, its files, its assets."""

import re
from graphlib import CycleError

import pytest

from imgpipeline.definitions import defs
from imgpipeline_tests.diagrams import (
    PAGE,
    asset_diagram,
    imports_of,
    mermaid,
    with_diagrams,
    without_implied,
)


def test_the_diagrams_of_the_page_are_those_of_the_code():
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_diagrams(page), "run `python -m imgpipeline_tests.diagrams`"


def test_every_asset_is_in_its_group_with_what_it_is_made_of():
    diagram, graph = asset_diagram(defs), defs.resolve_asset_graph()
    assert all(f"\n        {key.to_user_string()}\n" in diagram for key in graph.get_all_asset_keys())
    assert "    frames --> frame_changes\n" in diagram


def test_imports_between_parts_are_found():
    found = imports_of("imgpipeline")
    assert {"lake", "settings"} <= found["cli"]
    assert found["contracts"] == frozenset()


def test_an_arrow_that_others_imply_is_left_out():
    imports = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset()}
    assert without_implied(imports) == {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset()}


def test_parts_that_import_each_other_are_an_error():
    with pytest.raises(CycleError):
        without_implied({"a": frozenset("b"), "b": frozenset("a")})


def test_a_diagram_has_one_arrow_for_each_import():
    assert mermaid({"a": frozenset("bc"), "b": frozenset()}).splitlines()[2:-1] == ["    a --> b", "    a --> c"]


def test_a_page_without_a_place_for_the_diagram_is_an_error():
    with pytest.raises(ValueError, match="0 places"):
        with_diagrams("# Architecture\n")


@pytest.mark.parametrize("page", ["architecture", "repair"])
def test_every_file_and_folder_that_a_page_names_exists(page):
    text = (PAGE.parent / f"{page}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", text))
    package = PAGE.parents[1] / "imgpipeline"
    stored = {"images/", "metadata/", "metadata_damaged/"}
    assert len(named) > 5
    assert [
        name
        for name in sorted(named - stored)
        if not any((at / name).exists() for at in (package, package.parent, package / "lake"))
    ] == []


def test_every_part_of_the_package_and_of_the_lake_is_described():
    text = PAGE.read_text(encoding="utf-8")
    for package in ("imgpipeline", "imgpipeline.lake"):
        assert [part for part in imports_of(package) if f"`{part}/`" not in text] == []
