"""Compares the accounts of sessions with their records in the ledger, per chain (`ChainBooks`) and over all chains.

A record belongs to the session that it names in the attribute `session`, or for a dead letter in its header or value. A
record that names none belongs to the session of its source's last notice before it. Replays and dead letters of notices
belong to no session. A session has several chains if its notices have a separate topic, or if its source moved to
another partition or topic.
"""

import json
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.notices import ANNOUNCED_BEFORE, NoticeKind
from imgpipeline.contracts.outcomes import GapReason
from imgpipeline.contracts.text import counted
from imgpipeline.ledger.bundles.reading import read_chain
from imgpipeline.ledger.reading import list_covering
from imgpipeline.objectstore import ObjectStore

FRAMES, DEAD_LETTERS, LATER = "frames", "dead_letters", "later"
ACCOUNTED = ("announced", "gated", "failed")
_COUNTS = ("received", *ACCOUNTED, "dropped", FRAMES, DEAD_LETTERS, LATER, "expired", "repeats")
SessionKey = tuple[str, str]
"""Source and session."""


@dataclass(slots=True)
class SessionBooks:
    """One session of a source in one chain."""

    source: str
    session: str
    first: int
    """Offset of the first notice or record."""
    last: int
    """Offset of the last notice or record."""
    is_started: bool = False
    """Whether the notice `started` was seen. Only then are all records of the session known."""
    is_ended: bool = False
    """Whether the notice `ended` was seen. Only then are all accounts of the session known."""
    counts: Counter[str] = field(default_factory=Counter)
    """Sums of the accounts (`dropped` over all reasons) and numbers of records (`frames` and `dead_letters`; `later` of
    them lie after the last account). `expired` counts offsets of the chain that expired unread during the session,
    `repeats` frames that the log has twice."""
    days: dict[str, Counter[str]] = field(default_factory=dict)
    """Numbers of records by UTC day; `later` of them lie after the day's last account."""
    reaches: dict[str, int] = field(default_factory=dict)
    """The offset before which all announced frames are, by `topic/partition`, if the accounts have another topic."""
    wrong_accounts: list[int] = field(default_factory=list)
    """Offsets of accounts that do not add up: `received` is not `announced + gated + dropped + failed`."""

    @property
    def records(self) -> int:
        """Records of the session in the ledger; of a session that has not ended, those before its last account."""
        return self.counts[FRAMES] + self.counts[DEAD_LETTERS] - (0 if self.is_ended else self.counts[LATER])

    @property
    def missing(self) -> int:
        """Announced frames without a record, except those that may have expired; negative for too many records."""
        if not self.is_started:
            return 0
        missing = self.counts["announced"] - self.records
        if missing > 0:
            return max(0, missing - self.counts["expired"])
        return min(0, missing + self.counts["repeats"]) if self.is_ended else 0


@dataclass(slots=True)
class ChainBooks:
    """The sessions in the part of a chain that was read. Outcomes are added in the order of their offsets."""

    sessions: dict[SessionKey, SessionBooks] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)
    """The session of each source's last notice, unless it has ended."""
    expired: int = 0
    """Offsets of the chain that expired unread."""
    nameless: dict[str, dict[tuple[str, str], list[int]]] = field(default_factory=dict)
    """First offset and number of the records that belong to no session yet, by source, day and kind."""

    def take(self, line: Mapping[str, Any]) -> None:
        """Adds one line of a segment."""
        if "frame" in line:
            self._take_frame(line["frame"])
        elif "notice" in line:
            self._take_notice(line["notice"])
        elif "dead_letter" in line:
            self._take_letter(line["dead_letter"])
        elif line["gap"]["reason"] == GapReason.EXPIRED.value:
            self.expired += line["gap"]["to"] - line["gap"]["from"]
            for source, session in self.current.items():
                self.sessions[source, session].counts["expired"] += line["gap"]["to"] - line["gap"]["from"]

    def _take_frame(self, frame: Mapping[str, Any]) -> None:
        if frame["replay_of"] is None:
            session, offset = frame["attributes"].get("session"), frame["source_kafka_offset"]
            self._count(frame["source"], session, offset, frame["timestamp"][:10], FRAMES)

    def _take_letter(self, letter: Mapping[str, Any]) -> None:
        if not letter.get("replay_of") and "session" in letter:
            source, session = letter["session"]
            self._count(source, session, letter["offset"], letter["day"] or "", DEAD_LETTERS)

    def _count(self, source: str | None, session: object, offset: int, day: str, kind: str) -> None:
        if source is None:
            return
        named = session if isinstance(session, str) and session else self.current.get(source)
        if named is not None:
            self._add(self._of(source, named, offset), day, kind, 1)
        else:
            self.nameless.setdefault(source, {}).setdefault((day, kind), [offset, 0])[1] += 1

    def _add(self, found: SessionBooks, day: str, kind: str, records: int) -> None:
        if day not in found.days:
            found.days[day] = Counter()
        for counts in (found.days[day], found.counts):
            counts[kind] += records
            counts[LATER] += records

    def _take_notice(self, notice: Mapping[str, Any]) -> None:
        source, session, kind = notice["source"], notice["session"], NoticeKind(notice["kind"])
        found = self._of(source, session, notice["offset"])
        earlier = self.nameless.pop(source, {})
        if kind is NoticeKind.STARTED:
            found.is_started = True
        else:
            for (day, what), (offset, records) in earlier.items():
                self._add(self._of(source, session, offset), day, what, records)
        if kind is NoticeKind.ENDED:
            found.is_ended = True
            self.current.pop(source, None)
        else:
            self.current[source] = session
        if "received" in notice:
            _add_account(found, notice)
            for at, offset in notice.get("attributes", {}).get(ANNOUNCED_BEFORE, {}).items():
                found.reaches[at] = max(offset, found.reaches.get(at, 0))

    def _of(self, source: str, session: str, offset: int) -> SessionBooks:
        found = self.sessions.get((source, session))
        if found is None:
            found = self.sessions[source, session] = SessionBooks(source, session, offset, offset)
        found.first, found.last = min(found.first, offset), max(found.last, offset)
        return found

    def without(self, settled: Container[SessionKey]) -> "ChainBooks":
        """Returns the books without some sessions."""
        kept = {key: found for key, found in self.sessions.items() if key not in settled}
        return replace(self, sessions=kept)

    def to_json(self) -> dict[str, Any]:
        """Returns the sessions and their sums, without days and without records that belong to no session."""
        return {
            "current": self.current,
            "expired": self.expired,
            "sessions": [
                {
                    **{name: getattr(found, name) for name in _PLAIN},
                    **{name: found.counts[name] for name in _COUNTS if found.counts[name]},
                }
                for found in self.sessions.values()
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ChainBooks":
        """Parses the result of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        current = {str(source): str(session) for source, session in data["current"].items()}
        books = cls(current=current, expired=int(data["expired"]))
        for each in data["sessions"]:
            plain = {name: each[name] for name in _PLAIN}
            counts = Counter({name: int(each.get(name, 0)) for name in _COUNTS})
            books.sessions[str(each["source"]), str(each["session"])] = SessionBooks(**plain, counts=counts)
        return books


_PLAIN = ("source", "session", "first", "last", "is_started", "is_ended", "wrong_accounts", "reaches")


def _add_account(found: SessionBooks, notice: Mapping[str, Any]) -> None:
    dropped = sum(notice["dropped"].values())
    found.counts.update({name: notice[name] for name in ("received", *ACCOUNTED)} | {"dropped": dropped})
    if notice["received"] != dropped + sum(notice[name] for name in ACCOUNTED):
        found.wrong_accounts.append(notice["offset"])
    for counts in (found.counts, found.days.get(notice["from"][:10], Counter())):
        counts[LATER] = 0


def count_repeats(store: ObjectStore, chain: ChainId, found: SessionBooks) -> int:
    """Reads the offsets of a session and counts the repeated records of the same frame.

    A producer that is not idempotent writes a record again if the broker's answer is lost.

    Raises:
        LedgerError: A segment cannot be read.
    """
    seen: set[str] = set()
    repeats = 0
    for line in _read_lines(store, chain, found.first, found.last + 1):
        frame = json.loads(line).get("frame") if b'"session"' in line else None
        if frame and (frame["source"], frame["attributes"].get("session")) == (found.source, found.session):
            repeats += frame["frame_id"] in seen
            seen.add(frame["frame_id"])
    return repeats


def _count_later(store: ObjectStore, chain: ChainId, found: SessionBooks, start: int) -> int:
    """Reads the offsets from `start` on, and returns how many records there name a session."""
    books = ChainBooks()
    for line in _read_lines(store, chain, start, found.last + 1):
        outcome = json.loads(line)
        offset = outcome.get("frame", {}).get("source_kafka_offset", outcome.get("dead_letter", {}).get("offset"))
        if offset is not None and offset >= start:
            books.take(outcome)
    later = books.sessions.get((found.source, found.session))
    return later.counts[LATER] if later else 0


def _read_lines(store: ObjectStore, chain: ChainId, start: int, stop: int) -> Iterator[bytes]:
    """Yields the lines of the segments that hold some offsets."""
    for segment in read_chain(store, chain, min(list_covering(store, chain, start, start + 1), default=0), stop):
        yield from segment.body.splitlines()


@dataclass(frozen=True, slots=True)
class JoinedSession:
    """One session of a source over all chains."""

    parts: Mapping[ChainId, SessionBooks]
    whole: SessionBooks
    """The whole session. `expired` includes offsets that expired unread in the chains that the accounts name."""
    unread: int
    """Number of offsets that may have announced frames and that the ledger has not reached yet."""

    @property
    def missing(self) -> int:
        """Announced frames without a record, except expired and unread ones; negative for too many records."""
        missing = self.whole.missing
        return max(0, missing - self.unread) if missing > 0 else missing

    @property
    def is_settled(self) -> bool:
        """Whether the session has ended and adds up."""
        return self.whole.is_ended and not (self.whole.missing or self.whole.wrong_accounts)

    def problems(self) -> Iterator[str]:
        """Yields the discrepancies as text, with source, session and offsets."""
        at = "; ".join(f"{chain}, offsets {part.first} to {part.last}" for chain, part in sorted(self.parts.items()))
        named = f"{self.whole.source}, session {self.whole.session} ({at})"
        for part in self.parts.values():
            for offset in part.wrong_accounts:
                yield (
                    f"{named}: the account at offset {offset} does not add up: received is not announced + gated + "
                    "dropped + failed."
                )
        if self.missing:
            announced = counted(self.whole.counts["announced"], "frame")
            records = f"{self.whole.records} of its records{'' if self.whole.is_ended else ' before its last account'}"
            yield f"{named}: its accounts announce {announced}, the ledger holds {records}."


def join_books(books: Mapping[ChainId, ChainBooks], ends: Mapping[ChainId, int]) -> dict[SessionKey, JoinedSession]:
    """Joins the books of all chains.

    `ends` says how far each chain was read.
    """
    keys = {key for found in books.values() for key in found.sessions}
    return {key: _join(key, books, ends) for key in sorted(keys)}


def find_repeats(store: ObjectStore, session: JoinedSession) -> JoinedSession:
    """Counts the repeated records of a session that has ended with more records than it announced.

    Raises:
        LedgerError: A segment cannot be read.
    """
    if len(session.parts) == 1 or not session.whole.is_ended or session.missing >= 0:
        return session  # for a single chain, the walk has counted them
    repeats = sum(count_repeats(store, chain, part) for chain, part in session.parts.items())
    counts = session.whole.counts | Counter(repeats=repeats)
    return replace(session, whole=replace(session.whole, counts=counts))


def find_later(store: ObjectStore, session: JoinedSession) -> JoinedSession:
    """Counts the records of an open session at and after the offsets that its accounts name.

    Raises:
        LedgerError: A segment cannot be read.
    """
    whole = session.whole
    later = 0
    for chain, part in session.parts.items() if whole.is_started and not whole.is_ended else ():
        start = whole.reaches.get(f"{chain.topic}/{chain.partition}", part.last + 1)
        later += _count_later(store, chain, part, start) if start <= part.last else 0
    return replace(session, whole=replace(whole, counts=whole.counts | Counter(later=later)))


def unread_offsets(reaches: Mapping[str, int], ends: Mapping[ChainId, int]) -> int:
    """Returns the number of offsets before given positions, by `topic/partition`, that the ledger has not reached."""
    return sum(max(0, offset - min(_ends_at(at, ends), default=0)) for at, offset in reaches.items())


def _ends_at(at: str, ends: Mapping[ChainId, int]) -> Iterator[int]:
    return (end for chain, end in ends.items() if f"{chain.topic}/{chain.partition}" == at)


def _join(key: SessionKey, books: Mapping[ChainId, ChainBooks], ends: Mapping[ChainId, int]) -> JoinedSession:
    parts = {chain: found.sessions[key] for chain, found in books.items() if key in found.sessions}
    counts: Counter[str] = Counter()
    reaches: dict[str, int] = {}
    for part in parts.values():
        counts.update(part.counts)
        reaches |= part.reaches
    counts["expired"] += sum(
        found.expired for chain, found in books.items() if f"{chain.topic}/{chain.partition}" in reaches
    )
    several = list(parts.values())
    if len(several) > 1:
        counts[LATER] = 0  # which of them lie after the last account, only its `announced_before` tells (`find_later`)
    whole = SessionBooks(
        *key,
        first=several[0].first,
        last=several[-1].last,
        is_started=any(part.is_started for part in several),
        is_ended=any(part.is_ended for part in several),
        counts=counts,
        wrong_accounts=[offset for part in several for offset in part.wrong_accounts],
        reaches=reaches,
    )
    return JoinedSession(parts, whole, unread_offsets(reaches, ends))
