"""The tables of `viewer`: each page or call beside a bare DuckDB, ten clients, memory, and a browser."""

from collections.abc import Mapping
from typing import Any

from benchmarks.table import Table, at_least, at_most

_MARGIN_S = 0.05
_MOST_MIB = 1000.0


def viewer_tables(part: Mapping[str, Any]) -> list[Table]:
    """Makes the tables.

    Args:
        part: As `measure_viewer` returned it.
    """
    caption = f"{part['days']} days, {part['frames']:,} frames; ms:"
    columns = ("path", "first", "later, p50", "p95", "bare DuckDB, p50", "ratio", "goal of later")
    rows = [_path(one) for one in part["paths"]]
    return [Table(columns, tuple(rows), caption), _figures(part)]


def _path(one: Mapping[str, Any]) -> tuple[str, ...]:
    times = (one["first_s"], one["p50_s"], one["p95_s"], one["bare_s"])
    goal = at_most(one["p50_s"], 2 * one["bare_s"] + _MARGIN_S, "≤ 2 x + 50 ms")
    return (
        f"`{one['path']}`",
        *(f"{1000 * time_s:.0f}" for time_s in times),
        f"{one['p50_s'] / one['bare_s']:.1f}",
        goal,
    )


def _figures(part: Mapping[str, Any]) -> Table:
    clients, browser = part["clients"], part["browser"]
    ratio = clients["together_per_s"] / clients["serial_per_s"]
    rows = [
        ("answers/s of one client", f"{clients['serial_per_s']:.1f}", ""),
        ("answers/s of ten clients / of one", f"{ratio:.2f}", at_least(ratio, 0.8)),
        ("peak memory of the server", f"{part['rss_mib']:.0f} MiB", at_most(part["rss_mib"], _MOST_MIB, "< 1 GB")),
    ]
    if browser:
        rows.append(("first paint of /review in Chromium", f"{browser['first_paint_s']:.2f} s", ""))
        rows.append(("first paint after another filter", f"{browser['filter_change_s']:.2f} s", ""))
    return Table(("figure", "value", "goal"), tuple(rows))
