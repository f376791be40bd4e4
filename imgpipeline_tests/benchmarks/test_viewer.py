"""The viewer's benchmark on a tiny store: every path is answered, and the table says whether goals are met."""

from pathlib import Path

import pytest

from benchmarks.viewer import measure_served
from benchmarks.viewer_tables import viewer_tables


@pytest.mark.medium
def test_a_tiny_run_produces_the_table(tmp_path: Path) -> None:
    paths, figures = viewer_tables(measure_served(tmp_path / "viewer", days=2, frames=200, rounds=2))

    assert paths.caption == "2 days, 200 frames; ms:"
    assert any(row[0].startswith("`/review?day=2026-01-10") for row in paths.rows)
    assert all(row[-1].startswith("≤ 2 x + 50 ms: ") for row in paths.rows)
    assert figures.rows[1][-1].startswith("≥ 0.8: ")
