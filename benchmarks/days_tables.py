"""The tables of `days`: what calls that name no day cost, by days that are over, and with very many partitions."""

from collections.abc import Mapping
from typing import Any

from benchmarks.table import Table, at_most

_HOWS = ("first", "idle", "news")


def days_tables(part: Mapping[str, Any]) -> list[Table]:
    """Makes the tables.

    Args:
        part: As `measure_days_over` returned it.
    """
    return [_by_days(part["days"]), *([_by_partitions(part["partitions"])] if part["partitions"] else [])]


def _by_days(measured: list[Mapping[str, Any]]) -> Table:
    columns = ("call", "days that are over", *(f"{how}: requests, s" for how in _HOWS), "goal: idle as with few days")
    fewest = measured[0]["calls"]
    rows = [
        (
            call,
            f"{days['days']:,}",
            *(_figure(days["calls"][call][how]) for how in _HOWS),
            at_most(days["calls"][call]["idle"]["requests"], fewest[call]["idle"]["requests"] + 11, "≤ 1 page a table"),
        )
        for call in fewest
        for days in measured
    ]
    return Table(columns, tuple(rows))


def _by_partitions(part: Mapping[str, Any]) -> Table:
    columns = ("call", "partitions", "first: requests, s", "idle: requests, s")
    rows = [
        (call, f"{part['partitions']:,}", _figure(found["first"]), _figure(found["idle"]))
        for call, found in part["calls"].items()
    ]
    return Table(
        columns, tuple(rows), "All partitions with a frame of one day; a call looks for the end of each chain:"
    )


def _figure(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{found['requests']:,}, {found['s']:.2f}"
