"""The books of the sources: what each session received and its outcome, compared with the ledger.

Accounts and records come from the tables `notices`, `frames` and `dead_letters`. `frames` has a frame once that was
announced several times, so where a session's figures differ, the records of that day are counted in the ledger.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from enum import StrEnum
from typing import Any, Protocol

import pyarrow as pa

from imgpipeline.contracts.keys import ChainId
from imgpipeline.lake.query.summaries import view_sql
from imgpipeline.lake.sessions.session import Answer, open_lake
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS
from imgpipeline.ledger import index_buckets, read_days
from imgpipeline.ledger.session_books import DEAD_LETTERS, FRAMES, ChainBooks
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings


class SessionState(StrEnum):
    """What is known of a session."""

    CLOSED = "closed"
    """It has said that it ended: its books must balance."""
    OPEN = "open"
    """It has not said so: it runs, or was killed. Records after its last account are its open interval."""


@dataclass(frozen=True, slots=True)
class BookEntry:
    """One session of a source on one day, in one topic partition."""

    day: date
    """UTC day of frame time."""
    source: str | None
    """The source; None for dead letters that name none."""
    session: str | None
    """The session; None for records that belong to none."""
    topic: str
    """Kafka topic."""
    topic_id: str
    """Which incarnation of the topic."""
    partition: int
    """Kafka partition."""
    state: SessionState | None
    """Whether the session has ended, as far as the days that were asked for say; None without a session."""
    received: int | None
    """Frames that the source received, by its accounts; None without any."""
    announced: int | None
    """Of these, announced."""
    in_ledger: int
    """Records of the session in the ledger: frames, duplicates and dead letters."""
    duplicates: int
    """Of these, frames that were announced before; counted where the figures differ."""
    dead_letters: int
    """Of these, dead letters."""
    open: int
    """Of these, records that no account counts yet."""
    gated: int | None
    """Frames left out on purpose and not announced."""
    dropped: Mapping[str, int]
    """Frames lost, by reason."""
    failed: int | None
    """Frames that could not be decoded or stored."""
    unaccounted: int
    """`received - announced - gated - dropped - failed`: 0 if the accounts add up."""
    difference: int
    """Announced frames that the ledger does not hold; negative for records beyond those announced."""
    observed_s: float | None
    """Seconds during which the source was delivering frames."""

    @property
    def balances(self) -> bool:
        """Whether the accounts add up and the ledger holds what was announced."""
        return not self.unaccounted and not self.difference

    @property
    def chain(self) -> ChainId:
        """The chain that holds its records."""
        return ChainId(self.topic, self.topic_id, self.partition)


def read_books(
    store: ObjectStore, settings: Settings, days: Sequence[date] | None = None, source: str | None = None
) -> tuple[BookEntry, ...]:
    """Returns the books of some days, by day and source, in the order of the sessions.

    Args:
        store: The object store.
        settings: As for a query session.
        days: Only these (UTC); None: all that there are.
        source: Only this one.

    Raises:
        LedgerError: A segment cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or memory or disk do not suffice.
        TransientError: The store does not answer.
    """
    with open_lake(store, settings=settings, days=days) as lake:
        entries = [entry for entry in read_entries(lake) if source is None or entry.source == source]
        return tuple(_recount(store, lake.snapshot.ends, entries))


class Queries(Protocol):
    """Answers queries over the day tables: a query session, or the stored tables of a day."""

    def query(self, sql: str) -> Answer:
        """Runs one query of this project."""


def read_entries(tables: Queries) -> list[BookEntry]:
    """Returns the books as the tables alone tell them: a difference may be frames that were announced before."""
    answer = tables.query(view_sql("books").replace("{letters}", SHOWN_LETTERS))
    return [_entry(dict(zip(answer.columns, row, strict=True))) for row in answer.rows]


def books_table(entries: Iterable[BookEntry]) -> pa.Table:
    """Returns books as an Arrow table, one row an entry."""
    schema = pa.schema([pa.field(name, kind) for name, kind in _SCHEMA.items()])
    rows = [{field.name: getattr(entry, field.name) for field in fields(entry)} for entry in entries]
    return pa.Table.from_pylist([{**row, "dropped": list(row["dropped"].items())} for row in rows], schema=schema)


_TEXT, _COUNT = pa.string(), pa.int64()
_SCHEMA = {
    "day": pa.date32(), "source": _TEXT, "session": _TEXT, "topic": _TEXT, "topic_id": _TEXT, "partition": pa.int32(),
    "state": _TEXT, "received": _COUNT, "announced": _COUNT, "in_ledger": _COUNT, "duplicates": _COUNT,
    "dead_letters": _COUNT, "open": _COUNT, "gated": _COUNT, "dropped": pa.map_(_TEXT, _COUNT), "failed": _COUNT,
    "unaccounted": _COUNT, "difference": _COUNT, "observed_s": pa.float64(),
}  # fmt: skip


def _entry(row: Mapping[str, Any]) -> BookEntry:
    dropped: Counter[str] = Counter()
    for reasons in row["dropped"] or ():
        dropped.update(reasons)
    has_session = row["session"] is not None
    said = {name: row[name] or 0 for name in ("received", "announced", "gated", "failed")} if row["accounts"] else {}
    unaccounted = 2 * said.get("received", 0) - sum(said.values()) - dropped.total()
    entry = BookEntry(
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
        difference=0,
    )
    return _balanced(entry)


def _balanced(entry: BookEntry) -> BookEntry:
    """Returns an entry with its open interval and difference. A duplicate may be one that Kafka has stored twice."""
    if entry.session is None:
        return entry
    beyond = entry.in_ledger - (entry.announced or 0)
    if entry.state is SessionState.OPEN and beyond > 0:
        return replace(entry, open=beyond, difference=0)
    return replace(entry, open=0, difference=0 if 0 < beyond <= entry.duplicates else -beyond)


def _recount(store: ObjectStore, ends: Mapping[ChainId, int], entries: Sequence[BookEntry]) -> Iterable[BookEntry]:
    """Counts the records of entries with a difference in the ledger."""
    wanted: dict[date, set[ChainId]] = defaultdict(set)
    for entry in entries:
        if entry.difference:
            wanted[entry.day].add(entry.chain)
    books = _read_ledger(store, ends, wanted)
    for entry in entries:
        found = books.get(entry.chain) if entry.difference else None
        session = found.sessions.get((entry.source or "", entry.session or "")) if found else None
        records = session.days.get(entry.day.isoformat(), Counter()) if session else Counter()
        if not records:
            yield entry
            continue
        in_table = entry.in_ledger - entry.dead_letters
        yield _balanced(
            replace(
                entry,
                in_ledger=records.total(),
                duplicates=max(0, records[FRAMES] - in_table),
                dead_letters=records[DEAD_LETTERS],
            )
        )


def _read_ledger(
    store: ObjectStore, ends: Mapping[ChainId, int], wanted: Mapping[date, set[ChainId]]
) -> dict[ChainId, ChainBooks]:
    buckets = [bucket for day in wanted for bucket in index_buckets(store, day) if bucket.chain in wanted[day]]
    found: dict[ChainId, ChainBooks] = defaultdict(ChainBooks)
    for segment in read_days(store, {day: {} for day in wanted}, ends, buckets=buckets):
        for line in segment.body.splitlines():
            found[segment.header.chain].take(json.loads(line))
    return dict(found)
