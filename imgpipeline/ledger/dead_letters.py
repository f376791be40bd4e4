"""Dead letters and their replays.

A record whose header `replay_of` names a dead letter is another attempt at it, also through several attempts.
`dead_letter_list` lists dead letters; `sources.replay` announces them again.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from imgpipeline.contracts.keys import segment_key
from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.contracts.records import RecordReference, resolve_reference
from imgpipeline.errors import ConfigurationError, DeadLetterCode
from imgpipeline.ledger.reading import find_end, last_segment_before, list_chains, read_segment
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectStore

_DAY_MAY_CHANGE = {
    DeadLetterCode.INVALID_MESSAGE,
    DeadLetterCode.TIMESTAMP_OUT_OF_RANGE,
    DeadLetterCode.TOO_LARGE,
    DeadLetterCode.PROCESS_CRASHED,
}
"""Their day is that of the Kafka record; once the record can be read, the frame may belong to another one."""
_REPLAY_MARK = b'"replay_of":"'

Progress = Callable[[int, int], None]
"""Called with the offsets whose outcomes were read, and how many there are in all (0 if that is not known)."""


class LetterState(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    """Nobody has announced it again, as far as the ledger has got."""
    REPLAYED = "replayed"
    """It was announced again and is a dead letter again: that one stands for it."""
    RESOLVED = "resolved"
    """It was announced again and became a frame."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters are looked for."""

    code: DeadLetterCode | None = None
    """Only those of this code."""
    day: date | None = None
    """Only those listed under this UTC day."""
    source: str | None = None
    """Only those of this source."""
    record: RecordReference | None = None
    """Only the one of this record."""

    def matches_record(self, buried: "BuriedRecord") -> bool:
        """Whether it is one of them."""
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
    """Topic, partition and offset of its record."""
    letter: DeadLetter
    """The dead letter, without value and headers: there may be many (`read_letter` has them)."""
    segment_start: int
    """Start of the segment that holds it."""
    state: LetterState = LetterState.OPEN
    """What became of it."""
    became: RecordReference | None = None
    """The frame, or the later dead letter that stands for it."""


@dataclass(slots=True)
class ReplayTrail:
    """Which record announces which other one again, and what came of it."""

    parents: dict[RecordReference, RecordReference] = field(default_factory=dict)
    """For each replay what it replays."""
    frames: set[RecordReference] = field(default_factory=set)
    """The replays that became frames."""
    ages: dict[RecordReference, datetime] = field(default_factory=dict)
    """When the outcome of each replay was stored."""
    _good: dict[RecordReference, RecordReference] = field(default_factory=dict)
    _last: dict[RecordReference, RecordReference] = field(default_factory=dict)

    def add(self, segment: Segment) -> list[DeadLetter]:
        """Takes the replays of a segment; returns its dead letters."""
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
        """Adds one outcome, if it is a replay.

        Args:
            replay: Where its record lies.
            replay_of: What its record announces again, if it does.
            is_letter: Whether it became a dead letter again.
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
        """Determines the state of each first record; call it after everything was added."""
        self._good.clear()
        self._last.clear()
        for replay in sorted(self.parents, key=lambda found: (self.ages[found], found)):
            if replay in self.frames:
                self._good.setdefault(self.root(replay), replay)
            else:
                self._last[self.root(replay)] = replay

    def root(self, record: RecordReference) -> RecordReference:
        """Returns the first record that a replay, of a replay perhaps, goes back to; itself, where it is none."""
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
        """Returns all records that have something to do with a replay, sorted."""
        return sorted({*self.parents, *self.parents.values()})


def may_have_moved(buried: BuriedRecord) -> bool:
    """Tells whether the frame of a dead letter, once its record can be read, may belong to another day."""
    return buried.letter.code in _DAY_MAY_CHANGE


def read_letters(store: ObjectStore, wanted: Sequence[BuriedRecord]) -> Iterator[tuple[BuriedRecord, DeadLetter]]:
    """Yields dead letters with value and headers, in the order asked for; neighbours share one reading.

    Raises:
        LedgerError: A segment cannot be read.
    """
    last: tuple[str, dict[int, DeadLetter]] = ("", {})
    for buried in wanted:
        key = segment_key(buried.reference.chain, buried.segment_start)
        if key != last[0]:
            last = (key, _letters_of(read_segment(store, key)))
        yield buried, last[1][buried.reference.offset]


def _letters_of(segment: Segment) -> dict[int, DeadLetter]:
    return {outcome.offset: outcome for outcome in segment.outcomes() if isinstance(outcome, DeadLetter)}


def locate_dead_letter(store: ObjectStore, topic: str, topic_id: str | None, partition: int, offset: int) -> Segment:
    """Returns the segment that holds a dead letter.

    Args:
        store: The object store.
        topic: Kafka topic.
        topic_id: Which incarnation of it; None: the only one that has a dead letter there.
        partition: Kafka partition.
        offset: Kafka offset.

    Raises:
        ConfigurationError: There is no dead letter, or several incarnations of the topic have one.
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
            f"{name} is not a dead letter in the ledger so far.",
            next_step="`imgpipeline dead-letters list --all` lists all of them",
        )
    return found[0]
