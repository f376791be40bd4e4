"""How far counts are from the truth: the stored rows of the table `accuracy`, added up over days and sources."""

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date
from typing import Any

import pyarrow as pa

from imgpipeline.accuracy.estimator import Estimate, Verdict, add
from imgpipeline.errors import TransientError
from imgpipeline.lake.days.measuring import WHOLE_DAY
from imgpipeline.lake.schema.accuracy import ACCURACY
from imgpipeline.lake.sessions.session import LakeSession

OUTDATED = "out_of_date"
"""The verdict on a count that has changed since the stored accuracy was measured."""
INTERVAL = {
    "estimate": pa.float64(), "low": pa.float64(), "high": pa.float64(), "samples": pa.int64(), "verdict": pa.string(),
}  # fmt: skip
"""The columns that a count gets, with their types."""
_FIELDS = tuple(each.name for each in fields(Estimate))
_OBSERVED = """
SELECT DISTINCT day, source FROM frame_stats
WHERE processed > 0 AND list_contains($1, day) AND (len($2) = 0 OR list_contains($2, source))
"""
_Key = tuple[Any, ...]


def with_intervals(
    lake: LakeSession, counts: pa.Table, groups: Sequence[str], days: Sequence[date] | None, sources: Sequence[str]
) -> pa.Table:
    """Adds the columns of `INTERVAL` to counts of labels; arguments as of `intervals_of`."""
    found = intervals_of(lake, counts.to_pylist(), groups, days, sources)
    for name, kind in INTERVAL.items():
        counts = counts.append_column(name, pa.array([row[name] for row in found], kind))
    return counts


def intervals_of(
    lake: LakeSession,
    counts: Sequence[Mapping[str, Any]],
    groups: Sequence[str],
    days: Sequence[date] | None,
    sources: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Returns the values of `INTERVAL` for each count of a label.

    They are None if a source or day of the group has no plan, in a time zone other than UTC, or if the store does not
    answer.

    Args:
        counts: A row for each group, with the columns `groups` and `count`.
        groups: `label`, and some of `day` and `source`.
        days: The counted days; None: all.
        sources: The counted sources; empty: all.
    """
    days, rows = lake.days if days is None else days, []
    # A session has its counts, so it can show them without the store; then no interval is known.
    with contextlib.suppress(TransientError):
        rows = [] if lake.local else lake.stored_rows(ACCURACY.name, days).to_pylist()
    rows = [row for row in rows if row["part"] == WHOLE_DAY and row["line"] is None]
    needed = _observed(lake, groups, days, sources) if rows else {}
    known: dict[_Key, list[Estimate]] = defaultdict(list)
    for row in rows:
        if not sources or row["source"] in sources:
            known[_key_of(row, groups)].append(Estimate(**{name: row[name] for name in _FIELDS}))
    return [
        _interval(row["count"], known[_key_of(row, groups)], needed.get(_key_of(row, groups, "label"), 0))
        for row in counts
    ]


def _interval(count: int, estimates: Sequence[Estimate], needed: int) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(INTERVAL)
    if not estimates or len(estimates) < needed:
        return found
    total = add(estimates)
    if total.count != count:
        return {**found, "samples": total.samples, "verdict": OUTDATED}
    corrected = total.estimate if total.verdict is Verdict.MEASURED else None
    values = (corrected, total.low, total.high, total.samples, total.verdict.value)
    return dict(zip(INTERVAL, values, strict=True))


def _observed(
    lake: LakeSession, groups: Sequence[str], days: Sequence[date], sources: Sequence[str]
) -> dict[_Key, int]:
    """Returns the number of pairs of day and source with processed frames, by the groups other than `label`."""
    found: dict[_Key, int] = defaultdict(int)
    for day, source in lake.query(_OBSERVED, [list(days), list(sources)]).rows:
        found[_key_of({"day": day, "source": source}, groups, "label")] += 1
    return found


def _key_of(row: Mapping[str, Any], groups: Sequence[str], without: str = "") -> _Key:
    return tuple(row[group] for group in groups if group != without)
