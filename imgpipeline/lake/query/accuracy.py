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
INTERVAL = ("estimate", "low", "high", "samples", "verdict")
"""The columns that a count gets."""
_TYPES = (pa.float64(), pa.float64(), pa.float64(), pa.int64(), pa.string())
_FIELDS = tuple(each.name for each in fields(Estimate))
_OBSERVED = """
SELECT DISTINCT day, source FROM frame_stats
WHERE processed > 0 AND list_contains($1, day) AND (len($2) = 0 OR list_contains($2, source))
"""
_Key = tuple[Any, ...]


def estimates_of(lake: LakeSession, days: Sequence[date], *, sources: Sequence[str] = ()) -> dict[_Key, Estimate]:
    """Returns the stored estimate of each day, source and label, for whole UTC days.

    Args:
        days: UTC days.
        sources: Only these; empty: all.

    Raises:
        TransientError: The store does not answer.
    """
    rows = lake.stored_rows(ACCURACY.name, days).to_pylist()
    return {
        (row["day"], row["source"], row["label"]): Estimate(**{name: row[name] for name in _FIELDS})
        for row in rows
        if row["part"] == WHOLE_DAY and (not sources or row["source"] in sources)
    }


def with_intervals(
    lake: LakeSession, counts: pa.Table, groups: Sequence[str], days: Sequence[date] | None, sources: Sequence[str]
) -> pa.Table:
    """Adds the columns of `INTERVAL` to counts of labels.

    They are NULL if a source or day of the group has no plan, or the store does not answer.

    Args:
        lake: A session whose days are UTC days, with the summary `frame_stats`.
        counts: A row for each group, with the columns `groups` and `count`.
        groups: `label`, and some of `day` and `source`.
        days: The counted days; None: all.
        sources: The counted sources; empty: all.
    """
    days, known = lake.days if days is None else days, {}
    # A session has its counts, so it can show them without the store; then no interval is known.
    with contextlib.suppress(TransientError):
        known = estimates_of(lake, days, sources=sources)
    needed = _observed(lake, groups, days, sources) if known else {}
    of_group: dict[_Key, list[Estimate]] = defaultdict(list)
    for (day, source, label), estimate in known.items():
        of_group[_key_of({"day": day, "source": source, "label": label}, groups)].append(estimate)
    rows = [_interval(row, of_group[_key_of(row, groups)], needed, groups) for row in counts.to_pylist()]
    for number, (name, kind) in enumerate(zip(INTERVAL, _TYPES, strict=True)):
        counts = counts.append_column(name, pa.array([row[number] for row in rows], kind))
    return counts


def _interval(
    row: Mapping[str, Any], estimates: Sequence[Estimate], needed: Mapping[_Key, int], groups: Sequence[str]
) -> tuple[float | None, float | None, float | None, int | None, str | None]:
    if not estimates or len(estimates) < needed.get(_key_of(row, groups, "label"), 0):
        return None, None, None, None, None
    total = add(estimates)
    if total.count != row["count"]:
        return None, None, None, total.samples, OUTDATED
    corrected = total.estimate if total.verdict is Verdict.MEASURED else None
    return corrected, total.low, total.high, total.samples, total.verdict.value


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
