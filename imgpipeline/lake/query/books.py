"""The books of the sources: what each session received and its outcome, compared with the ledger.

Accounts and records come from the tables `notices`, `frames` and `dead_letters`. `frames` has one row for a frame that
was announced several times, so if a session's figures differ, the records of that day are counted in the ledger.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from enum import StrEnum
from typing import Any, Protocol

import pyarrow as pa

from imgpipeline.contracts.keys import ChainId
from imgpipeline.lake.query.summaries import view_sql
from imgpipeline.lake.sessions.session import Answer, LakeSession, open_lake
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS
from imgpipeline.lake.sessions.summaries import IS_WANTED
from imgpipeline.ledger.days import index_buckets, read_days
from imgpipeline.ledger.session_books import DEAD_LETTERS, FRAMES, LATER, ChainBooks, unread_offsets
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings


class SessionState(StrEnum):
    """Whether a session has ended."""

    CLOSED = "closed"
    """It reported its end, so its books must balance."""
    OPEN = "open"
    """It runs or was killed. Its books must balance up to its last account; later records are its open interval."""


@dataclass(frozen=True, slots=True)
class BookEntry:
    """One session of a source on one day."""

    day: date
    """UTC day of frame time."""
    source: str | None
    """The source; None for dead letters that name none."""
    session: str | None
    """The session; None for records that belong to none."""
    topic: str
    """Kafka topic; of several, the one with most of its records."""
    topic_id: str
    partition: int
    state: SessionState | None
    """Whether the session has ended, judging by the requested days; None without a session."""
    received: int | None
    """Frames that the source received, by its accounts; None without any."""
    announced: int | None
    """How many of them it announced."""
    in_ledger: int
    """Records of the session in the ledger: frames, duplicates and dead letters."""
    duplicates: int
    """How many of them are frames that were announced before; counted only if the figures differ."""
    dead_letters: int
    open: int
    """How many of them no account counts yet."""
    gated: int | None
    """Frames that were skipped on purpose and not announced."""
    dropped: Mapping[str, int]
    """Frames lost, by reason."""
    failed: int | None
    unaccounted: int
    """`received - announced - gated - dropped - failed`: 0 if the accounts add up."""
    waiting: int
    """Announced frames that detection has not reached, where notices have a topic of their own."""
    difference: int
    """Announced frames that the ledger lacks, if open before the last account; negative if it has more than that."""
    observed_s: float | None
    """Seconds during which the source delivered frames."""

    @property
    def balances(self) -> bool:
        """Whether the accounts add up and the ledger has every announced frame."""
        return not self.unaccounted and not self.difference


def read_books(
    store: ObjectStore, settings: Settings, days: Sequence[date] | None = None, source: str | None = None
) -> tuple[BookEntry, ...]:
    """Returns the books of some days, by day and source, in the order of the sessions.

    Args:
        settings: As for a query session.
        days: Only these UTC days; None: all.

    Raises:
        LedgerError: A segment cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or memory or disk do not suffice.
        TransientError: The store does not answer.
    """
    with open_lake(store, settings=settings, days=days) as lake:
        found = [one for one in _read(lake) if source is None or one.entry.source == source]
        return tuple(_recount(store, lake.snapshot.ends, found))


def books_of_session(
    store: ObjectStore, lake: LakeSession, day: date, source: str | None = None
) -> tuple[BookEntry, ...]:
    """Returns the books of one UTC day of a query session; raises what `read_books` raises."""
    with lake.of_days([day]):
        found = [one for one in _read(lake) if source is None or one.entry.source == source]
    return tuple(_recount(store, lake.snapshot.ends, found))


class Queries(Protocol):
    """Runs queries over the day tables of a query session, or over the stored tables of a day."""

    def query(self, sql: str) -> Answer:
        """Runs one query of this project."""


def read_entries(tables: Queries) -> list[BookEntry]:
    """Returns the books from the tables only. A difference may come from frames that were announced before."""
    return [found.entry for found in _read(tables)]


@dataclass(frozen=True, slots=True)
class _Found:
    """The books of a session on a day, from the tables."""

    entry: BookEntry
    chains: frozenset[ChainId]
    reaches: Mapping[str, int]
    """The offset before which its announced frames are, by `topic/partition`, if its accounts tell."""
    later: int
    """How many of its records lie after its last account on that day, as far as the offsets tell."""


def _read(tables: Queries) -> list[_Found]:
    answer = tables.query(view_sql("books").replace("{letters}", SHOWN_LETTERS).replace("{is_wanted}", IS_WANTED))
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    ended = {(row["source"], row["session"]) for row in rows if row["is_ended"]}
    sessions: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        of_chain = None if row["session"] else (row["topic"], row["topic_id"], row["partition"])
        sessions.setdefault((row["day"], row["source"], row["session"], of_chain), []).append(row)
    return [_found(several, (several[0]["source"], several[0]["session"]) in ended) for several in sessions.values()]


def _found(rows: Sequence[dict[str, Any]], is_ended: bool) -> _Found:
    """Joins the rows of a session on a day, one for each of its chains."""
    joined = max(rows, key=lambda row: row["frames"] + row["letters"]).copy()
    for name in ("frames", "letters", "later", "accounts", "received", "announced", "gated", "failed", "observed_s"):
        said = [row[name] for row in rows if row[name] is not None]
        joined[name] = sum(said) if said else None
    joined |= {"is_ended": is_ended, "dropped": [reasons for row in rows for reasons in row["dropped"] or ()]}
    reaches: dict[str, int] = {}
    for text in (text for row in rows for text in row["reaches"] or ()):
        for at, offset in json.loads(text).items():
            reaches[at] = max(offset, reaches.get(at, 0))
    chains = frozenset(ChainId(row["topic"], row["topic_id"], row["partition"]) for row in rows)
    later = (joined["later"] or 0) if len(chains) == 1 or reaches else 0  # offsets of several chains have no order
    return _Found(_balanced(_entry(joined), later), chains, reaches, later)


def books_table(entries: Iterable[BookEntry]) -> pa.Table:
    """Returns books as an Arrow table with one row per entry."""
    rows = [{field.name: getattr(entry, field.name) for field in fields(entry)} for entry in entries]
    rows = [{**row, "dropped": list(row["dropped"].items())} for row in rows]
    return pa.Table.from_pylist(rows, schema=pa.schema(_SCHEMA))


_TEXT, _COUNT = pa.string(), pa.int64()
_SCHEMA: Mapping[str, pa.DataType] = {
    "day": pa.date32(), "source": _TEXT, "session": _TEXT, "topic": _TEXT, "topic_id": _TEXT, "partition": pa.int32(),
    "state": _TEXT, "received": _COUNT, "announced": _COUNT, "in_ledger": _COUNT, "duplicates": _COUNT,
    "dead_letters": _COUNT, "open": _COUNT, "waiting": _COUNT, "gated": _COUNT, "dropped": pa.map_(_TEXT, _COUNT),
    "failed": _COUNT, "unaccounted": _COUNT, "difference": _COUNT, "observed_s": pa.float64(),
}  # fmt: skip


def _entry(row: Mapping[str, Any]) -> BookEntry:
    dropped: Counter[str] = Counter()
    for reasons in row["dropped"] or ():
        dropped.update(reasons)
    has_session = row["session"] is not None
    said = {name: row[name] or 0 for name in ("received", "announced", "gated", "failed")} if row["accounts"] else {}
    unaccounted = 2 * said.get("received", 0) - sum(said.values()) - dropped.total()
    return BookEntry(
        **{name: row[name] for name in ("day", "source", "session", "topic", "topic_id", "partition", "observed_s")},
        state=(SessionState.CLOSED if row["is_ended"] else SessionState.OPEN) if has_session else None,
        received=said.get("received"),
        announced=said.get("announced"),
        in_ledger=row["frames"] + row["letters"],
        duplicates=0,
        dead_letters=row["letters"],
        open=0,
        gated=said.get("gated"),
        dropped=dict(sorted(dropped.items())),
        failed=said.get("failed"),
        unaccounted=unaccounted,
        waiting=0,
        difference=0,
    )


def _balanced(entry: BookEntry, later: int) -> BookEntry:
    """Returns an entry with its open interval and difference. Kafka may have stored a duplicate twice."""
    if entry.session is None:
        return entry
    beyond = entry.in_ledger - (entry.announced or 0)
    if entry.state is SessionState.OPEN:
        missing = max(0, later - beyond)
        return replace(entry, open=beyond + missing, difference=missing)
    return replace(entry, open=0, difference=0 if 0 < beyond <= entry.duplicates else -beyond)


def _recount(store: ObjectStore, ends: Mapping[ChainId, int], found: Sequence[_Found]) -> Iterable[BookEntry]:
    """Counts the records of entries with a difference in the ledger, and the offsets that it has not reached."""
    wanted: dict[date, set[ChainId]] = defaultdict(set)
    for one in found:
        if one.entry.difference:
            wanted[one.entry.day].update(one.chains)
    books = _read_ledger(store, ends, wanted)
    for one in found:
        entry = one.entry
        if entry.session is None:
            yield from _nameless(one, books, wanted[entry.day])
            continue
        records: Counter[str] = Counter()
        for chain in one.chains & books.keys() if entry.difference else ():
            session = books[chain].sessions.get((entry.source or "", entry.session or ""))
            records.update(session.days.get(entry.day.isoformat(), Counter()) if session else Counter())
        if records:
            duplicates = max(0, records[FRAMES] - (entry.in_ledger - entry.dead_letters))
            letters = records[DEAD_LETTERS]
            entry = replace(entry, in_ledger=records[FRAMES] + letters, dead_letters=letters, duplicates=duplicates)
            entry = _balanced(entry, max(one.later, records[LATER]) if len(one.chains) == 1 else one.later)
        waiting = max(0, min(entry.difference, unread_offsets(one.reaches, ends)))
        yield replace(entry, waiting=waiting, difference=entry.difference - waiting)


def _nameless(found: _Found, books: Mapping[ChainId, ChainBooks], counted: Collection[ChainId]) -> Iterable[BookEntry]:
    """Yields the records of no session. Only the ledger knows which session a dead letter names."""
    (chain,), entry = found.chains, found.entry
    if entry.source is None or chain not in counted or chain not in books:
        yield entry
        return
    left = books[chain].nameless.get(entry.source, {})
    records = {kind: count for (day, kind), (_, count) in left.items() if day == entry.day.isoformat()}
    if records:
        yield replace(entry, in_ledger=sum(records.values()), dead_letters=records.get(DEAD_LETTERS, 0))


def _read_ledger(
    store: ObjectStore, ends: Mapping[ChainId, int], wanted: Mapping[date, set[ChainId]]
) -> dict[ChainId, ChainBooks]:
    buckets = [bucket for day in wanted for bucket in index_buckets(store, day) if bucket.chain in wanted[day]]
    found: dict[ChainId, ChainBooks] = defaultdict(ChainBooks)
    for segment in read_days(store, {day: {} for day in wanted}, ends, buckets=buckets):
        for line in segment.body.splitlines():
            found[segment.header.chain].take(json.loads(line))
    return dict(found)
