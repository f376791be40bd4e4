"""What an audit keeps for the next one: how far each chain was walked, and which versions of tables were compared.

Only what was found correct is kept, so every fault is found again each time. If `audit/state.json` cannot be read, the
next audit takes longer.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from imgpipeline.contracts.keys import ChainId, audit_state_key
from imgpipeline.contracts.times import format_time
from imgpipeline.lake.build.known_days import KnownDays
from imgpipeline.lake.quality.audit_report import DayFigures
from imgpipeline.ledger.audit import ChainAudit
from imgpipeline.ledger.session_books import ChainBooks
from imgpipeline.objectstore import ForbiddenError, ObjectMissingError, ObjectStore

_VERSION = 1
_COUNTS = ("position", "segments", "frames", "gated", "dead_letters", "notices")


@dataclass(slots=True)
class AuditState:
    """What was found in order before."""

    chains: dict[ChainId, ChainAudit] = field(default_factory=dict)
    """How far each chain was walked."""
    days: dict[date, tuple[str, DayFigures]] = field(default_factory=dict)
    """For each day the versions of its tables, and its figures."""
    summaries: dict[tuple[str, date], tuple[str, bool]] = field(default_factory=dict)
    """For each summary the versions of it and of its inputs, and whether it was stale."""
    news: KnownDays | None = None
    """What the walks have seen of each day; None if they did not note it, or not all of it."""
    verdicts: dict[date, str] = field(default_factory=dict)
    """A hash of the stored verdict on each day, whatever it says."""


def read_state(store: ObjectStore) -> AuditState:
    """Returns what the last audit has left; an empty state where there is none that can be read."""
    try:
        data = json.loads(store.get(audit_state_key()))
        if data["version"] != _VERSION:
            return AuditState()
        state = AuditState(
            {found.chain: found for found in map(_read_chain, data["chains"])},
            {
                date.fromisoformat(d["day"]): (
                    str(d["versions"]),
                    DayFigures(**{n: int(d.get(n, 0)) for n in _figures()}),
                )
                for d in data["days"]
            },
            {
                (s["name"], date.fromisoformat(s["day"])): (str(s["versions"]), bool(s["stale"]))
                for s in data["summaries"]
            },
        )
        state.news = KnownDays.from_json(data["news"]) if data.get("news") is not None else None
        state.verdicts = {date.fromisoformat(day): str(digest) for day, digest in data.get("verdicts", {}).items()}
    except (ObjectMissingError, ValueError, KeyError, TypeError, AttributeError):
        return AuditState()
    return state


def write_state(store: ObjectStore, state: AuditState, *, now: datetime) -> bool:
    """Keeps a state; False if this reader may not write, which only makes the next audit longer."""
    data = {
        "version": _VERSION,
        "audited_at": format_time(now),
        "chains": [_chain_json(found) for found in state.chains.values() if found.ok],
        "days": [
            {"day": day.isoformat(), "versions": versions, **{name: getattr(figures, name) for name in _figures()}}
            for day, (versions, figures) in sorted(state.days.items())
        ],
        "summaries": [
            {"name": name, "day": day.isoformat(), "versions": versions, "stale": stale}
            for (name, day), (versions, stale) in sorted(state.summaries.items())
        ],
        "news": None if state.news is None else state.news.to_json(),
        "verdicts": {day.isoformat(): digest for day, digest in sorted(state.verdicts.items())},
    }
    try:
        store.put(audit_state_key(), json.dumps(data).encode())
    except ForbiddenError:
        return False
    return True


def _figures() -> Iterable[str]:
    return DayFigures.__slots__


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
