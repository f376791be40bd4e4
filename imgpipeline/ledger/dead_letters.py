"""Dead letters, their raw records, their replays, and the state that follows.

The raw record of a dead letter is an object of its own, put before the segment: a segment never changes, and it must be
possible to remove bytes that show or name people. A segment keeps their size, SHA-256 and session.

A record whose header `replay_of` names a dead letter is another attempt; there may be several in a row.
`dead_letter_list` lists dead letters; `sources.replay` announces them again.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from imgpipeline.contracts.keys import ChainId, raw_record_key, segment_key
from imgpipeline.contracts.outcomes import DeadLetter, Outcome
from imgpipeline.contracts.records import RawRecord, RecordReference, resolve_reference
from imgpipeline.errors import ConfigurationError, DeadLetterCode
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.reading import find_end, last_segment_before, list_chains, read_segment
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

_DAY_MAY_CHANGE = {
    DeadLetterCode.INVALID_MESSAGE,
    DeadLetterCode.TIMESTAMP_OUT_OF_RANGE,
    DeadLetterCode.TOO_LARGE,
    DeadLetterCode.PROCESS_CRASHED,
}
"""The day of these dead letters comes from the Kafka record. When the record can be read, its frame may have another
day."""
_REPLAY_MARK = b'"replay_of":"'

Progress = Callable[[int, int], None]
"""Called with the number of offsets read so far and the total number (0 if unknown)."""


class LetterState(StrEnum):
    """The state of a dead letter."""

    OPEN = "open"
    """The ledger has no replay of it."""
    REPLAYED = "replayed"
    """Its replay is a dead letter again, which replaces this one."""
    RESOLVED = "resolved"
    """Its replay became a frame."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Selects dead letters; None in a field matches all."""

    code: DeadLetterCode | None = None
    day: date | None = None
    """The UTC day under which the dead letter is listed."""
    source: str | None = None
    record: RecordReference | None = None

    def matches_record(self, buried: "BuriedRecord") -> bool:
        """Returns whether a dead letter matches."""
        letter = buried.letter
        return (
            (self.code is None or letter.code is self.code)
            and (self.day is None or letter.day == self.day)
            and (self.source is None or letter.source == self.source)
            and (self.record is None or buried.reference == self.record)
        )


@dataclass(frozen=True, slots=True)
class BuriedRecord:
    """One dead letter and its state."""

    reference: RecordReference
    """Topic, partition and offset of the record."""
    letter: DeadLetter
    """The dead letter; `read_raw_record` reads its record."""
    state: LetterState = LetterState.OPEN
    became: RecordReference | None = None
    """The frame or later dead letter that the replay became."""


@dataclass(slots=True)
class ReplayTrail:
    """All replays and their outcomes."""

    parents: dict[RecordReference, RecordReference] = field(default_factory=dict)
    """The record that each replay announces again."""
    frames: set[RecordReference] = field(default_factory=set)
    """The replays that became frames."""
    ages: dict[RecordReference, datetime] = field(default_factory=dict)
    """When the outcome of each replay was stored."""
    _good: dict[RecordReference, RecordReference] = field(default_factory=dict)
    _last: dict[RecordReference, RecordReference] = field(default_factory=dict)

    def add(self, segment: Segment) -> list[DeadLetter]:
        """Adds the replays of a segment; returns the segment's dead letters."""
        header, letters = segment.header, list[DeadLetter]()
        if not header.dead_letters and _REPLAY_MARK not in segment.body:
            return letters
        for line in segment.body.splitlines():
            is_letter = line.startswith(b'{"dead_letter"')
            if not is_letter and _REPLAY_MARK not in line:
                continue
            data = json.loads(line)
            if "gap" in data:
                continue
            [outcome] = data.values()
            offset = outcome["source_kafka_offset"] if "frame" in data else outcome["offset"]
            self.note(RecordReference(header.chain, offset), outcome.get("replay_of"), is_letter, header.created_at)
            if is_letter:
                letters.append(DeadLetter.from_json(outcome))
        return letters

    def note(self, replay: RecordReference, replay_of: str | None, is_letter: bool, at: datetime) -> None:
        """Adds one outcome if it is a replay.

        Args:
            replay: Topic, partition and offset of the record.
            replay_of: The record's header `replay_of`.
            is_letter: Whether the outcome is a dead letter.
            at: When the outcome was stored.
        """
        meant = resolve_reference(replay_of, replay.chain) if replay_of else None
        if meant is None or (meant.chain == replay.chain and meant.offset >= replay.offset):
            return
        self.parents[replay] = meant
        self.ages[replay] = at
        if not is_letter:
            self.frames.add(replay)

    def settle(self) -> None:
        """Determines the state of each first record; call it after all outcomes are added."""
        self._good.clear()
        self._last.clear()
        for replay in sorted(self.parents, key=lambda found: (self.ages[found], found)):
            if replay in self.frames:
                self._good.setdefault(self.root(replay), replay)
            else:
                self._last[self.root(replay)] = replay

    def root(self, record: RecordReference) -> RecordReference:
        """Returns the first record in a row of replays; the record itself if it is not a replay."""
        seen: set[RecordReference] = set()
        while record in self.parents and record not in seen:
            seen.add(record)
            record = self.parents[record]
        return record

    def state_of(self, letter: RecordReference) -> tuple[LetterState, RecordReference | None]:
        """Returns the state of a dead letter, and the frame or dead letter that its replay became."""
        root = self.root(letter)
        if root in self._good:
            return LetterState.RESOLVED, self._good[root]
        last = self._last.get(root, letter)
        return (LetterState.OPEN, None) if last == letter else (LetterState.REPLAYED, last)

    def members(self) -> list[RecordReference]:
        """Returns all replays and the records that they replay, sorted."""
        return sorted({*self.parents, *self.parents.values()})


def may_have_moved(buried: BuriedRecord) -> bool:
    """Returns whether the frame of a dead letter may belong to another day when its record can be read."""
    return buried.letter.code in _DAY_MAY_CHANGE


def put_raw_records(store: ObjectStore, chain: ChainId, outcomes: Iterable[Outcome]) -> None:
    """Stores the raw records of dead letters, in parallel; call it before their segment is put.

    A key names offset and content, so a repeated or concurrent call changes nothing.
    """
    raws = {
        raw_record_key(chain, outcome.offset, outcome.raw.sha256): outcome.raw
        for outcome in outcomes
        if isinstance(outcome, DeadLetter) and outcome.raw
    }
    for _ in map_ahead(lambda key: store.create(key, json.dumps(raws[key].to_json()).encode()), raws):
        reach("raw record put done")


def read_raw_record(store: ObjectStore, chain: ChainId, letter: DeadLetter) -> RawRecord | None:
    """Returns the record of a dead letter; None if it was never stored, was removed, or is damaged."""
    try:
        stored = store.get(raw_record_key(chain, letter.offset, letter.raw_sha256 or ""))
        raw = RawRecord.from_json(json.loads(stored))
    except (ObjectMissingError, ValueError, KeyError, TypeError):
        return None
    return raw if raw.sha256 == letter.raw_sha256 else None


def _letters_of(segment: Segment) -> dict[int, DeadLetter]:
    return {outcome.offset: outcome for outcome in segment.outcomes() if isinstance(outcome, DeadLetter)}


def locate_dead_letter(store: ObjectStore, topic: str, topic_id: str | None, partition: int, offset: int) -> Segment:
    """Returns the segment with a dead letter.

    Args:
        store: The object store.
        topic: Kafka topic.
        topic_id: The incarnation of the topic; None: the only one that has a dead letter there.
        partition: Kafka partition.
        offset: Kafka offset.

    Raises:
        ConfigurationError: There is no such dead letter, or several incarnations of the topic have one.
        LedgerError: A segment cannot be read.
    """
    chains = [c for c in list_chains(store, topic) if c.partition == partition and topic_id in (None, c.topic_id)]
    found: list[Segment] = []
    for chain in chains:
        header = (
            last_segment_before(store, chain, offset + 1)
            if find_end(store, chain, hint=offset).offset > offset
            else None
        )
        segment = read_segment(store, segment_key(chain, header.start)) if header else None
        if segment and offset in _letters_of(segment):
            found.append(segment)
    name = f"{topic}/{partition}/{offset}"
    if len(found) > 1:
        names = ", ".join(RecordReference(segment.header.chain, offset).full_text for segment in found)
        raise ConfigurationError(
            f"{name} is a dead letter in {len(found)} incarnations of the topic.", next_step=f"name one of {names}"
        )
    if not found:
        raise ConfigurationError(
            f"{name} is not a dead letter in the ledger.",
            next_step="`imgpipeline dead-letters list --all` lists all of them",
        )
    return found[0]
