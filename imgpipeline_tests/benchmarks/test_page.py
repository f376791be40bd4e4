"""docs/performance.md shows the figures of a kept run, and nothing that was written by hand."""

import json
import re

import pytest

from benchmarks.page import FIGURES, PAGE, render_page

RESULTS = {
    "machine": {"processor": "a small one"},
    "benchmarks": {"ledger": {"segments a second": 400.0}},
}


def test_the_page_is_what_its_figures_make_of_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    results = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {"benchmarks": {}}

    assert render_page(page, results) == page


@pytest.mark.medium
def test_every_benchmark_has_its_place_on_the_page() -> None:
    from benchmarks.__main__ import NAMES  # noqa: PLC0415 - it imports all of Dagster

    assert set(re.findall(r"<!-- figures: (\w+) -->", PAGE.read_text(encoding="utf-8"))) == {"machine", *NAMES}


def test_figures_take_the_place_of_older_ones() -> None:
    page = "Before.\n<!-- figures: ledger -->\nold\nolder\n<!-- end of figures -->\nAfter.\n"

    once = render_page(page, RESULTS)

    assert "| segments a second | 400.000 |" in once
    assert "old" not in once
    assert once.startswith("Before.\n<!-- figures: ledger -->\n")
    assert once.endswith("<!-- end of figures -->\nAfter.\n")
    assert render_page(once, RESULTS) == once


def test_what_was_not_measured_keeps_no_old_figures() -> None:
    page = "<!-- figures: memory -->\n50 MiB\n<!-- end of figures -->\n"

    assert render_page(page, RESULTS) == page.replace("50 MiB", "Not measured in this run.")
