"""The books of sessions over all chains that hold something of them.

A session has more than one chain if its notices have a topic of their own, or if its source moved to another partition
or topic. Its accounts are compared with its records in all of them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.text import counted
from imgpipeline.ledger.session_books import ChainBooks, SessionBooks, SessionKey, count_repeats
from imgpipeline.objectstore import ObjectStore


@dataclass(frozen=True, slots=True)
class JoinedSession:
    """One session of a source."""

    parts: Mapping[ChainId, SessionBooks]
    """What each chain holds of it."""
    whole: SessionBooks
    """All of it. `expired` also counts what expired unread in the chains that its accounts name."""
    unread: int
    """Offsets before which its announced frames lie, and which the ledger has not reached."""

    @property
    def missing(self) -> int:
        """Announced frames without a record, those left out that expired or are not read yet; negative for too many."""
        missing = self.whole.missing
        return max(0, missing - self.unread) if missing > 0 else missing

    @property
    def is_settled(self) -> bool:
        """Whether it has ended and adds up."""
        return self.whole.is_ended and not (self.whole.missing or self.whole.wrong_accounts)

    def problems(self) -> Iterator[str]:
        """Yields what does not add up, with source, session and offsets."""
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
            yield f"{named}: its accounts announce {announced}, the ledger holds {self.whole.records} of its records."


def join_books(books: Mapping[ChainId, ChainBooks], ends: Mapping[ChainId, int]) -> dict[SessionKey, JoinedSession]:
    """Joins the books of all chains.

    Args:
        books: Of each chain.
        ends: How far each chain was read.
    """
    keys = {key for found in books.values() for key in found.sessions}
    return {key: _join(key, books, ends) for key in sorted(keys)}


def find_repeats(store: ObjectStore, session: JoinedSession) -> JoinedSession:
    """Returns a session with the number of its repeated records, if it has ended with more records than it announced.

    Raises:
        LedgerError: A segment cannot be read.
    """
    if len(session.parts) == 1 or not session.whole.is_ended or session.missing >= 0:
        return session  # the walk of a single chain has looked for them
    repeats = sum(count_repeats(store, chain, part) for chain, part in session.parts.items())
    counts = session.whole.counts | Counter(repeats=repeats)
    return replace(session, whole=replace(session.whole, counts=counts))


def unread_offsets(reaches: Mapping[str, int], ends: Mapping[ChainId, int]) -> int:
    """Returns how many of the offsets before some `topic/partition` positions the ledger has not reached."""
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
