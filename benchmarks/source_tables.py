"""The tables of what publishing costs at the sources."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.table import Table, at_least, at_most


def source_tables(part: Mapping[str, Any]) -> list[Table]:
    """Returns the tables: all ratios in one, then what is measured otherwise."""
    ratios = [(name, found) for name, found in part.items() if found["kind"] == "ratio"]
    tables = [_ratios(ratios)] if ratios else []
    return [*tables, *(_OTHERS[found["kind"]](found) for found in part.values() if found["kind"] in _OTHERS)]


def _ratios(found: list[tuple[str, Mapping[str, Any]]]) -> Table:
    columns = ("source", "published, frames/s", "plain loop, frames/s", "ratio", "goal")
    rows = [
        (
            name,
            f"{one['our_frames_per_s']:.0f}",
            f"{one['their_frames_per_s']:.0f}",
            f"{one['ratio']:.2f}",
            at_least(one["ratio"], 0.8) if one.get("has_goal", True) else "none",
        )
        for name, one in found
    ]
    return Table(columns, tuple(rows))


def _cameras(found: Mapping[str, Any]) -> Table:
    rows = (
        ("cameras, frames/s of each, seconds", f"{found['cameras']}, {found['fps']:g}, {found['seconds']:.0f}", ""),
        ("by the cameras' clocks: sent, announced", f"{found['sent']:,}, {found['arrived']:,}", ""),
        ("received", f"{found['received']:,}", ""),
        ("announced", f"{found['announced']:,}", ""),
        ("dropped or failed", f"{found['lost_share']:.3%}", at_most(found["lost_share"], 0.001, "≤ 0.1 %")),
        ("neither announced nor accounted for", f"{found['unaccounted']:,}", ""),
        ("CPU, cores", f"{found['cores']:.2f}", ""),
        ("RSS of the command, MB", f"{found['parent_rss_mb']:.0f}", ""),
        ("RSS of one camera's process, MB", f"{found['child_rss_mb']:.0f}", ""),
        ("load of the machine, cores", f"{found['load_before']:.1f} before, {found['load_after']:.1f} after", ""),
    )
    return Table(("many cameras", "value", "goal"), rows)


def _overload(found: Mapping[str, Any]) -> Table:
    rows = (
        ("seconds", f"{found['seconds']:.0f}"),
        ("received / announced frames/s of the fast camera", f"{found['in_per_s']:.1f} / {found['out_per_s']:.1f}"),
        ("dropped, by reason", ", ".join(f"{reason} {count:,}" for reason, count in found["dropped"].items())),
        ("neither announced nor accounted for", f"{found['unaccounted']:,}"),
        ("RSS after a quarter / at the end, MB", f"{found['rss_early_mb']:.0f} / {found['rss_late_mb']:.0f}"),
        ("dropped by the camera beside it", f"{found['calm_dropped']:,} of {found['calm_received']:,}"),
    )
    return Table(("a camera too fast for the store", "value"), rows)


_OTHERS: Mapping[str, Callable[[Mapping[str, Any]], Table]] = {"cameras": _cameras, "overload": _overload}
