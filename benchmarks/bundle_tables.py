"""The tables of `bundles`: requests and seconds of each way to read a day, and how they compare."""

from collections.abc import Mapping
from typing import Any

from benchmarks.bundles import WORKS
from benchmarks.table import Table, at_least, at_most

_FEWER = 50.0
_SLOWER = 2.0


def bundle_tables(part: Mapping[str, Any]) -> list[Table]:
    """Makes the tables.

    Args:
        part: As `measure_bundles` returned it.
    """
    return [_figures(part), _comparison(part)]


def _figures(part: Mapping[str, Any]) -> Table:
    columns = ("segments of 5 frames", "read from", "added ms a request", *(f"{work}: requests, s" for work in WORKS))
    rows = [
        (
            f"{day['segments']:,}",
            way["way"],
            f"{1000 * way['delay_s']:.0f}",
            *(f"{way[work]['requests']:,}, {way[work]['s']:.2f}" for work in WORKS),
        )
        for day in part["days"]
        for way in day["ways"]
    ]
    return Table(columns, tuple(rows))


def _comparison(part: Mapping[str, Any]) -> Table:
    columns = (
        "segments of 5 frames",
        "added ms a request",
        "work",
        "fewer requests than from segments",
        "goal",
        "time, long segments = 1",
        "goal of time",
    )
    rows = []
    for day in part["days"]:
        ways = {(way["way"], way["delay_s"]): way for way in day["ways"]}
        for delay_s in sorted({delay_s for _, delay_s in ways}):
            small, bundled, long = ways["small segments", 0.0], ways["bundles", delay_s], ways["long segments", delay_s]
            for work in WORKS:
                fewer = small[work]["requests"] / bundled[work]["requests"]
                slower = bundled[work]["s"] / long[work]["s"]
                rows.append(
                    (
                        f"{day['segments']:,}",
                        f"{1000 * delay_s:.0f}",
                        work,
                        f"{fewer:.0f}",
                        at_least(fewer, _FEWER),
                        f"{slower:.2f}",
                        "none" if work == "reading" else at_most(slower, _SLOWER, f"≤ {_SLOWER:g}"),
                    )
                )
    return Table(columns, tuple(rows), "Through bundles, compared with the segments and with segments of 1,000 frames:")
