"""The books of a chain: what the sessions of its sources account for, and how many of their records the ledger holds.

A record belongs to the session that it names: in the attribute `session`, a dead letter in the header or value that it
keeps. A record that names none belongs to the session of its source's last notice before it. Replays, and dead letters
of notices, announce no frame of a session.
"""

import base64
import json
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.messages import IMAGE_FIELDS
from imgpipeline.contracts.notices import ANNOUNCED_BEFORE, NoticeKind
from imgpipeline.contracts.outcomes import GapReason
from imgpipeline.ledger.bundles.reading import read_chain
from imgpipeline.ledger.reading import last_segment_before
from imgpipeline.objectstore import ObjectStore

FRAMES, DEAD_LETTERS = "frames", "dead_letters"
ACCOUNTED = ("announced", "gated", "failed")
_COUNTS = ("received", *ACCOUNTED, "dropped", FRAMES, DEAD_LETTERS, "expired", "repeats")
SessionKey = tuple[str, str]
"""Source and session."""


@dataclass(slots=True)
class SessionBooks:
    """One session of a source in one chain."""

    source: str
    """The source."""
    session: str
    """The session."""
    first: int
    """Offset of its first notice or record."""
    last: int
    """Offset of its last notice or record."""
    is_started: bool = False
    """Whether its notice `started` was seen: only then are all of its records known."""
    is_ended: bool = False
    """Whether its notice `ended` was seen: only then are all of its accounts known."""
    counts: Counter[str] = field(default_factory=Counter)
    """Sums of its accounts (`dropped` over all reasons), and its records: `frames` and `dead_letters`. `expired` counts
    offsets of the chain that expired unread while it was open, `repeats` frames that the log holds twice."""
    days: dict[str, Counter[str]] = field(default_factory=dict)
    """Its records by UTC day."""
    reaches: dict[str, int] = field(default_factory=dict)
    """By `topic/partition`: the offset before which its announced frames lie, if its accounts have another topic."""
    wrong_accounts: list[int] = field(default_factory=list)
    """Offsets of accounts that do not add up: `received` is not `announced + gated + dropped + failed`."""

    @property
    def records(self) -> int:
        """Records of the session in the ledger."""
        return self.counts[FRAMES] + self.counts[DEAD_LETTERS]

    @property
    def missing(self) -> int:
        """Announced frames without a record, those that may have expired left out; negative for too many records."""
        if not self.is_started:
            return 0
        missing = self.counts["announced"] - self.records
        if missing > 0:
            return max(0, missing - self.counts["expired"])
        return min(0, missing + self.counts["repeats"]) if self.is_ended else 0


@dataclass(slots=True)
class ChainBooks:
    """The books of a chain, as far as it was read. Outcomes are taken in the order of their offsets."""

    sessions: dict[SessionKey, SessionBooks] = field(default_factory=dict)
    """By source and session."""
    current: dict[str, str] = field(default_factory=dict)
    """The session of each source's last notice, unless it has ended."""
    expired: int = 0
    """Offsets of the chain that expired unread."""
    nameless: dict[str, dict[tuple[str, str], list[int]]] = field(default_factory=dict)
    """By source, day and kind: first offset and number of the records without a session while none is current."""

    def take(self, line: Mapping[str, Any]) -> None:
        """Takes one line of a segment."""
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
        if not letter.get("replay_of"):
            said = _read_letter(letter)
            if said is not None:
                self._count(*said, letter["offset"], letter["day"] or "", DEAD_LETTERS)

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
        found.days[day][kind] += records
        found.counts[kind] += records

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
        """Returns the sessions and their sums; days and records without a session are left out."""
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
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError if it is something else."""
        current = {str(source): str(session) for source, session in data["current"].items()}
        books = cls(current=current, expired=int(data.get("expired", 0)))
        for each in data["sessions"]:
            plain = {name: each[name] for name in _PLAIN if name != "reaches" or name in each}
            counts = Counter({name: int(each.get(name, 0)) for name in _COUNTS})
            books.sessions[str(each["source"]), str(each["session"])] = SessionBooks(**plain, counts=counts)
        return books


_PLAIN = ("source", "session", "first", "last", "is_started", "is_ended", "wrong_accounts", "reaches")


def _add_account(found: SessionBooks, notice: Mapping[str, Any]) -> None:
    dropped = sum(notice["dropped"].values())
    found.counts.update({name: notice[name] for name in ("received", *ACCOUNTED)} | {"dropped": dropped})
    if notice["received"] != dropped + sum(notice[name] for name in ACCOUNTED):
        found.wrong_accounts.append(notice["offset"])


def _read_letter(letter: Mapping[str, Any]) -> tuple[str | None, object] | None:
    """Returns source and session of a dead letter's record, each None if it names none; None if it is a notice."""
    headers = {name.lower(): _text(value) for name, value in letter.get("headers", ())}
    said = _read_object(letter["raw_base64"])
    if said.get("kind") in set(NoticeKind) and IMAGE_FIELDS.isdisjoint(said):
        return None
    attributes = said.get("attributes")
    inner = attributes.get("session") if isinstance(attributes, dict) else None
    key = _text(letter["key_base64"]) if letter["key_base64"] else None
    return letter["source"] or headers.get("source") or key, headers.get("session") or inner or said.get("session")


def _read_object(raw_base64: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(base64.b64decode(raw_base64 or ""))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(value_base64: str) -> str:
    return base64.b64decode(value_base64).decode("utf-8", "replace")


def count_repeats(store: ObjectStore, chain: ChainId, found: SessionBooks) -> int:
    """Reads a session's offsets and counts the frames of which it has more than one record.

    A producer that is not idempotent writes a record again if the broker's answer was lost.

    Raises:
        LedgerError: A segment cannot be read.
    """
    before = last_segment_before(store, chain, found.first + 1)
    seen: set[str] = set()
    repeats = 0
    for segment in read_chain(store, chain, before.start if before else 0, found.last + 1):
        for line in segment.body.splitlines():
            if b'"session"' not in line:
                continue
            frame = json.loads(line).get("frame")
            if frame and (frame["source"], frame["attributes"].get("session")) == (found.source, found.session):
                repeats += frame["frame_id"] in seen
                seen.add(frame["frame_id"])
    return repeats
