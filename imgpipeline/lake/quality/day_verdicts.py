"""The last audit's verdict on each day, stored so that a page can show it without reading the ledger.

An audit writes the verdict of a day when it has compared the day, or when the outcome is another one than before.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Any

from imgpipeline.contracts.keys import audit_verdict_key
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.lake.quality.audit_report import AuditReport, DayAudit, DayFigures, SummaryAudit
from imgpipeline.objectstore import ForbiddenError, ObjectMissingError, ObjectStore

_VERSION = 1
_MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """What the last audit has said of a day."""

    audited_at: datetime
    """When that audit began, UTC."""
    tables: str
    """Versions (e-tags) of the day tables that it read, in their order; empty if one was missing."""
    ok: bool
    """Whether tables and summaries held what the ledger has."""
    is_stale: bool
    """Whether the ledger had more of the day than the tables."""
    figures: DayFigures
    """What was counted in the ledger and in Parquet."""
    summaries: Mapping[str, str]
    """Each stored summary: `ok`, `behind` or `wrong`."""
    problems: tuple[str, ...]
    """What was wrong, at most 20 sentences."""
    e_tag: str = ""
    """Version of the object it was read from."""


def read_verdict(store: ObjectStore, day: date) -> StoredVerdict | None:
    """Returns the last audit's verdict on a day; None if the day was not audited, or by another release."""
    try:
        found = store.fetch(audit_verdict_key(day))
        data = json.loads(found.data)
        if data["version"] != _VERSION:
            return None
        return StoredVerdict(
            audited_at=parse_time(data["audited_at"]),
            tables=str(data["tables"]),
            ok=bool(data["ok"]),
            is_stale=bool(data["is_stale"]),
            figures=DayFigures(**data["figures"]),
            summaries={str(name): str(state) for name, state in data["summaries"].items()},
            problems=tuple(map(str, data["problems"])),
            e_tag=found.e_tag,
        )
    except (ObjectMissingError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_verdicts(
    store: ObjectStore, report: AuditReport, known: Mapping[date, str], *, full: bool, now: datetime
) -> dict[date, str]:
    """Stores the verdict of each day that was compared, or whose outcome is new.

    Args:
        store: The object store.
        report: What the audit has found.
        known: A hash of each day's verdict as it was stored before.
        full: Store all: everything was compared again.
        now: When the audit began.

    Returns:
        The hash of each day's stored verdict; that of days that could not be stored is missing.
    """
    by_day: dict[date, list[SummaryAudit]] = {}
    for summary in report.summaries:
        by_day.setdefault(summary.day, []).append(summary)
    written: dict[date, str] = {}
    for day in report.days:
        data = _verdict(day, by_day.get(day.day, ()))
        digest = sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
        if full or known.get(day.day) != digest:
            document = {"version": _VERSION, "audited_at": format_time(now), **data}
            try:
                store.put(audit_verdict_key(day.day), json.dumps(document).encode())
            except ForbiddenError:  # this reader may not write
                return written
        written[day.day] = digest
    return written


def _verdict(day: DayAudit, summaries: Iterable[SummaryAudit]) -> dict[str, Any]:
    found = list(summaries)
    problems = [*day.problems, *(summary.problem for summary in found if summary.problem)]
    return {
        "tables": day.versions,
        "ok": day.ok and all(summary.ok for summary in found),
        "is_stale": day.stale,
        "figures": {name: getattr(day.figures, name) for name in DayFigures.__slots__},
        "summaries": {s.name: "wrong" if not s.ok else "behind" if s.stale else "ok" for s in found},
        "problems": problems[:_MOST_PROBLEMS],
    }
