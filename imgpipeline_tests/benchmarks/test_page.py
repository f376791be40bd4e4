"""docs/performance.md shows the kept tables, and no figure between its markers that was written by hand."""

import json
import re

import pytest

from benchmarks.report import FIGURES, PAGE, Table, read_results, render_page

RESULTS = {"memory": [Table(("figure", "value"), [("peak", "160 MiB")])]}


def test_the_page_is_what_its_figures_make_of_it():
    page = PAGE.read_text(encoding="utf-8")

    assert render_page(page, read_results(json.loads(FIGURES.read_text(encoding="utf-8")))) == page


@pytest.mark.medium
def test_every_benchmark_has_its_place_on_the_page():
    from benchmarks.__main__ import NAMES  # noqa: PLC0415 - it imports all of Dagster

    assert set(re.findall(r"<!-- figures: (\w+) -->", PAGE.read_text(encoding="utf-8"))) == {"machine", *NAMES}


def test_figures_take_the_place_of_older_ones():
    page = "Before.\n<!-- figures: memory -->\nold\nolder\n<!-- end of figures -->\nAfter.\n"

    once = render_page(page, RESULTS)

    assert "| peak   | 160 MiB |" in once
    assert "old" not in once
    assert once.startswith("Before.\n<!-- figures: memory -->\n")
    assert once.endswith("<!-- end of figures -->\nAfter.\n")
    assert render_page(once, RESULTS) == once


def test_what_was_not_measured_keeps_no_old_figures():
    page = "<!-- figures: idle -->\n3 s\n<!-- end of figures -->\n"

    assert render_page(page, RESULTS) == page.replace("3 s", "Not measured in this run.")


def test_kept_tables_are_read_as_they_were_measured():
    table = Table(("a", "b"), [("long", "x")], "Caption:")
    [read] = read_results(json.loads(json.dumps({"memory": [table.to_json()]})))["memory"]

    assert read.render() == table.render()
    assert table.render().splitlines() == ["Caption:", "", "| a    | b |", "|------|---|", "| long | x |"]
