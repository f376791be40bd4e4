"""Stores the progress of an audit for the next one, and its verdict on each day for reports and pages.

Only what was found correct counts as done, so each audit reports every fault again. If `audit/state.json` cannot be
read, the next audit takes longer.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import PlainValidator, TypeAdapter

from imgpipeline.contracts.keys import ChainId, audit_state_key, audit_verdict_key
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.lake.days.day_catalog import KnownDays
from imgpipeline.lake.quality.audit_report import AuditReport, DayAudit, DayFigures, SummaryAudit
from imgpipeline.ledger.audit import ChainAudit
from imgpipeline.ledger.session_books import ChainBooks
from imgpipeline.objectstore import ForbiddenError, ObjectMissingError, ObjectStore

_STATE_VERSION = 1
_COUNTS = ("position", "segments", "frames", "gated", "dead_letters", "notices")
_MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class AuditedDay:
    """The tables of a day that an audit found correct."""

    e_tags: str
    """The e-tags of the tables, in their order. Other objects are compared again, even if they say the same."""
    versions: str
    """The versions of the tables, in their order; empty without tables."""
    figures: DayFigures


_DAYS = TypeAdapter(dict[date, AuditedDay])


@dataclass(slots=True)
class AuditState:
    """What earlier audits found correct."""

    chains: dict[ChainId, ChainAudit] = field(default_factory=dict)
    days: dict[date, AuditedDay] = field(default_factory=dict)
    summaries: dict[tuple[str, date], tuple[str, bool]] = field(default_factory=dict)
    """The e-tags of each summary and of its inputs, and whether it was stale."""
    known: KnownDays | None = None
    """What the walks noted about the days; None if the notes are missing or incomplete."""
    verdicts: dict[date, str] = field(default_factory=dict)
    """The hash of the stored verdict on each day."""


def read_state(store: ObjectStore) -> AuditState:
    """Returns the state of the last audit; an empty state if it is missing or cannot be read."""
    try:
        data = json.loads(store.get(audit_state_key()))
        if data["version"] != _STATE_VERSION:
            return AuditState()
        state = AuditState(
            {found.chain: found for found in map(_read_chain, data["chains"])},
            _DAYS.validate_python(data["days"]),
            {
                (s["name"], date.fromisoformat(s["day"])): (str(s["e_tags"]), bool(s["stale"]))
                for s in data["summaries"]
            },
        )
        state.known = KnownDays.from_json(data["news"]) if data["news"] is not None else None
        state.verdicts = {date.fromisoformat(day): str(digest) for day, digest in data["verdicts"].items()}
    except (ObjectMissingError, ValueError, KeyError, TypeError, AttributeError):
        return AuditState()
    return state


def write_state(store: ObjectStore, state: AuditState, *, now: datetime) -> bool:
    """Stores a state; False if this account may not write, which only makes the next audit slower."""
    data = {
        "version": _STATE_VERSION,
        "audited_at": format_time(now),
        "chains": [_chain_json(found) for found in state.chains.values() if found.ok],
        "days": _DAYS.dump_python(state.days, mode="json"),
        "summaries": [
            {"name": name, "day": day.isoformat(), "e_tags": e_tags, "stale": stale}
            for (name, day), (e_tags, stale) in sorted(state.summaries.items())
        ],
        "news": None if state.known is None else state.known.to_json(),
        "verdicts": {day.isoformat(): digest for day, digest in sorted(state.verdicts.items())},
    }
    try:
        store.put(audit_state_key(), json.dumps(data).encode())
    except ForbiddenError:
        return False
    return True


def _chain_json(found: ChainAudit) -> dict[str, Any]:
    chain = found.chain
    return {
        "topic": chain.topic,
        "topic_id": chain.topic_id,
        "partition": chain.partition,
        **{name: getattr(found, name) for name in _COUNTS},
        "gaps": dict(found.gaps),
        "books": found.books.to_json(),
    }


def _read_chain(data: dict[str, Any]) -> ChainAudit:
    chain = ChainId(data["topic"], data["topic_id"], data["partition"])
    gaps = {str(reason): int(offsets) for reason, offsets in data["gaps"].items()}
    counts: dict[str, Any] = {name: int(data[name]) for name in _COUNTS}
    books = ChainBooks.from_json(data["books"]) if "books" in data else ChainBooks()
    return ChainAudit(chain, **counts, gaps=gaps, books=books)


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """The last audit's verdict on a day."""

    version: Literal[1]
    audited_at: Annotated[datetime, PlainValidator(parse_time)]
    """When that audit started, UTC."""
    tables: str
    """Versions of the audited day tables, in their order; empty if one was missing."""
    ok: bool
    is_stale: bool
    """Whether the ledger had newer segments of the day."""
    figures: DayFigures
    """The counts in ledger and tables."""
    summaries: Mapping[str, str]
    """The state of each stored summary: `ok`, `behind` or `wrong`."""
    problems: tuple[str, ...]
    """The faults, at most 20."""
    content: str = ""
    """Hash of the stored verdict."""


_VERDICT = TypeAdapter(StoredVerdict)


def read_verdict(store: ObjectStore, day: date) -> StoredVerdict | None:
    """Returns the last audit's verdict on a day; None if the day was not audited, or by another release."""
    try:
        stored = store.get(audit_verdict_key(day))
        return replace(_VERDICT.validate_json(stored), content=sha256(stored).hexdigest()[:16])
    except (ObjectMissingError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_verdicts(
    store: ObjectStore, report: AuditReport, known: Mapping[date, str], *, full: bool, now: datetime
) -> dict[date, str]:
    """Stores the verdict on each day whose verdict changed, or on all days after a full audit.

    Args:
        known: The hash of each day's stored verdict.
        full: Store all verdicts, because everything was compared again.
        now: When the audit started.

    Returns:
        The hash of each day's stored verdict, without days that could not be stored.
    """
    by_day: dict[date, list[SummaryAudit]] = {}
    for summary in report.summaries:
        by_day.setdefault(summary.day, []).append(summary)
    written: dict[date, str] = {}
    for day in report.days:
        data = _verdict(day, by_day.get(day.day, ()))
        digest = sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
        if full or known.get(day.day) != digest:
            document = {"version": 1, "audited_at": format_time(now), **data}
            try:
                store.put(audit_verdict_key(day.day), json.dumps(document).encode())
            except ForbiddenError:  # this account may not write
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
        "figures": asdict(day.figures),
        "summaries": {s.name: "wrong" if not s.ok else "behind" if s.stale else "ok" for s in found},
        "problems": problems[:_MOST_PROBLEMS],
    }
