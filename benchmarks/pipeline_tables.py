"""The table of `pipeline`: the figures of this checkout beside those of older ones."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks.table import Table

_FIGURES = {
    ("YOLOX-nano", "frames_per_s"): ("YOLOX-nano: frames/s", 1),
    ("YOLOX-nano", "cpu_ms_a_frame"): ("YOLOX-nano: CPU ms a frame", 2),
    ("YOLOX-nano", "peak_rss_mib"): ("YOLOX-nano: peak MiB", 0),
    ("null network", "frames_per_s"): ("null network: frames/s", 1),
    ("null network", "cpu_ms_a_frame"): ("null network: CPU ms a frame", 2),
    ("null network", "s3_cpu_ms_a_frame"): ("null network: S3 server's CPU ms a frame", 2),
    ("null network", "peak_rss_mib"): ("null network: peak MiB", 0),
    ("steady", "p50_s"): ("announced to queryable, p50: s", 2),
    ("steady", "p95_s"): ("announced to queryable, p95: s", 2),
    ("memory", "peak_rss_mib"): ("long backlog: peak MiB", 0),
    ("memory", "growth_mib"): ("long backlog: growth from 10 % on, MiB", 1),
}
"""Work and figure, with what they are called and how many decimal places they are shown with."""


def pipeline_tables(part: Mapping[str, Any]) -> list[Table]:
    """Makes the table: medians of the rounds, their ratio, and how far the rounds of one commit are apart.

    Args:
        part: As `measure_pipeline` returned it.
    """
    names = [f"commit {commit}" for commit in part["commits"][:-1]]
    columns = (
        "figure",
        *names,
        "this commit",
        *(f"this / {commit}" for commit in part["commits"][:-1]),
        "rounds apart",
    )
    rows = []
    for (work, figure), (text, places) in _FIGURES.items():
        rounds = [checkout[figure] for checkout in part["works"][work]]
        *olds, new = map(median, rounds)
        shown = (f"{value:,.{places}f}" for value in (*olds, new))
        apart = max(max(values) / min(values) if min(values) > 0 else 0.0 for values in rounds)
        rows.append((text, *shown, *(f"{new / old:.2f}" if old else "-" for old in olds), _apart(apart)))
    return [Table(columns, tuple(rows))]


def _apart(ratio: float) -> str:
    return f"{100 * (ratio - 1):.0f} %" if ratio else "-"
