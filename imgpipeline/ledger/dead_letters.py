"""Dead letters, their raw records, their replays, and the state that follows.

The raw record of a dead letter is an object of its own, put before the segment: a segment never changes, and it must be
possible to remove bytes that show or name people. A segment keeps their size, SHA-256 and session.

A record whose header `replay_of` names a dead letter is another attempt; there may be several in a row.
`sources.dead_letters` announces records again.

All dead letters and replays are in one stored object that follows the ledger (`checkpoint.FollowerObject`), so listing
them only reads the segments since the last time. A lost or damaged list is rebuilt from the start of the ledger.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from imgpipeline.contracts.keys import OFFSET_LIMIT, RAW_RECORDS, ChainId, raw_record_key
from imgpipeline.contracts.outcomes import DeadLetter, Outcome
from imgpipeline.contracts.records import RawRecord, RecordReference, resolve_reference
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.errors import ConfigurationError, DeadLetterCode
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.checkpoint import Checkpoint, FollowerObject
from imgpipeline.ledger.follow import Batch, LostCheckpointError, OffsetRange, follow
from imgpipeline.ledger.reading import ChainEnd, find_end, fix_ends, list_chains, segments_holding
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

_REPLAY_MARK = b'"replay_of":"'
_VERSION = 2
_MOST_BYTES = 2**30
_SAVED_EVERY = 40
"""Number of batches after which the list is saved, so that an interrupted call loses little work."""
_NAME = "dead_letters"

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

        `replay_of` is the record's header, and `at` when the outcome was stored.
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

    Without a `topic_id`, only one incarnation of the topic may have a dead letter there.

    Raises:
        ConfigurationError: There is no such dead letter, or several incarnations of the topic have one.
        LedgerError: A segment cannot be read.
    """
    chains = [c for c in list_chains(store, topic) if c.partition == partition and topic_id in (None, c.topic_id)]
    found: list[Segment] = []
    for chain in chains:
        if find_end(store, chain, hint=offset).offset > offset:
            held = segments_holding(store, chain, [offset])
            found += [segment for segment, _ in held if offset in _letters_of(segment)]
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


@dataclass(slots=True)
class DeadLetterList:
    """All dead letters up to a checkpoint."""

    letters: dict[RecordReference, BuriedRecord] = field(default_factory=dict)
    trail: ReplayTrail = field(default_factory=ReplayTrail)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

    def take(self, batch: Batch) -> None:
        """Adds a batch of the ledger."""
        for forgotten in batch.forgotten:
            self._forget(forgotten)
        for followed in batch.segments:
            if followed.segment is not None:
                self.add(followed.segment)
        self.checkpoint = batch.checkpoint

    def add(self, segment: Segment) -> None:
        """Adds the dead letters and replays of a segment."""
        for letter in self.trail.add(segment):
            reference = RecordReference(segment.header.chain, letter.offset)
            self.letters[reference] = BuriedRecord(reference, letter)

    def _forget(self, offsets: OffsetRange) -> None:
        for record in [record for record in self.letters if offsets.covers(record.chain, record.offset)]:
            del self.letters[record]
        for replay in [record for record in self.trail.parents if offsets.covers(record.chain, record.offset)]:
            del self.trail.parents[replay], self.trail.ages[replay]
            self.trail.frames.discard(replay)

    def find(self, wanted: Wanted) -> list[BuriedRecord]:
        """Returns the matching dead letters with their states, the latest first."""
        self.trail.settle()
        return sorted(map(self._settled, filter(wanted.matches_record, self.letters.values())), key=_age, reverse=True)

    def _settled(self, buried: BuriedRecord) -> BuriedRecord:
        state, became = self.trail.state_of(buried.reference)
        return replace(buried, state=state, became=became)

    def to_json(self) -> bytes:
        """Returns the stored form of the list."""
        chains = sorted({record.chain for record in (*self.letters, *self.trail.members())})
        number = {chain: at for at, chain in enumerate(chains)}
        letters = [
            [number[reference.chain], buried.letter.to_json()] for reference, buried in sorted(self.letters.items())
        ]
        trail = self.trail
        replays = [
            [*_named(replay, number), *_named(meant, number), replay in trail.frames, format_time(trail.ages[replay])]
            for replay, meant in sorted(trail.parents.items())
        ]
        named = [[chain.topic, chain.topic_id, chain.partition] for chain in chains]
        data = {"version": _VERSION, "checkpoint": self.checkpoint.to_json(), "chains": named}
        return json.dumps({**data, "letters": letters, "replays": replays}, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "DeadLetterList":
        """Parses the result of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        data: dict[str, Any] = json.loads(text)
        if data["version"] != _VERSION:
            raise ValueError("another version")
        chains = [ChainId(str(topic), str(topic_id), int(partition)) for topic, topic_id, partition in data["chains"]]
        found = cls(checkpoint=Checkpoint.from_json(data["checkpoint"]))
        for at, letter in data["letters"]:
            read = DeadLetter.from_json(letter)
            reference = RecordReference(chains[at], read.offset)
            found.letters[reference] = BuriedRecord(reference, read)
        for at, offset, of, of_offset, is_frame, age in data["replays"]:
            replay = RecordReference(chains[at], int(offset))
            found.trail.parents[replay] = RecordReference(chains[of], int(of_offset))
            found.trail.ages[replay] = parse_time(age)
            if is_frame:
                found.trail.frames.add(replay)
        return found


def fix_ends_by_list(store: ObjectStore) -> dict[ChainId, ChainEnd]:
    """Fixes the ends of all chains; the search starts where the stored list ends.

    Raises:
        LedgerError: The last segment of a chain cannot be read.
        TransientError: The store does not answer.
    """
    known = FollowerObject(store, _NAME, _MOST_BYTES).load(DeadLetterList.from_json)
    return fix_ends(store, {chain: at.start for chain, at in known.checkpoint.chains.items()} if known else None)


def find_dead_letters(
    store: ObjectStore,
    wanted: Wanted,
    *,
    ends: Mapping[ChainId, ChainEnd] | None = None,
    progress: Progress | None = None,
) -> tuple[list[BuriedRecord], ReplayTrail]:
    """Finds matching dead letters in any state, and updates the stored list.

    `ends` are the fixed ends of all chains (`fix_ends_by_list`); by default, they are read now.

    Returns:
        The dead letters, the latest first (by the times of their records), and the replays.

    Raises:
        LedgerError: A segment cannot be read.
        TransientError: The store does not answer.
    """
    stored = FollowerObject(store, _NAME, _MOST_BYTES)
    known = stored.load(DeadLetterList.from_json) or DeadLetterList()
    ends = fix_ends(store, known=known.checkpoint.chains) if ends is None else ends
    followed = _follow(stored, known, ends, progress)
    return followed.find(wanted), followed.trail


def remove_orphans(store: ObjectStore) -> int:
    """Removes raw records without a dead letter; returns their number.

    They are left if a run dies between the records and their segment, and the next run decides otherwise. Records at
    offsets without an outcome stay: a run may be about to put their segment.

    Raises:
        LedgerError: A segment cannot be read, for example because it is being repaired.
        TransientError: The store does not answer.
    """
    listed = [info.key for info in store.list_objects(RAW_RECORDS)]  # before the ends, so that it holds nothing newer
    if not listed:
        return 0
    ends = fix_ends_by_list(store)
    known, _ = find_dead_letters(store, Wanted(), ends=ends)
    kept = {raw_record_key(b.reference.chain, b.reference.offset, b.letter.raw_sha256 or "") for b in known}
    stops = [raw_record_key(c, OFFSET_LIMIT if end.is_closed else end.offset, "") for c, end in ends.items()]
    stop_of = {stop.rpartition("/")[0]: stop for stop in stops}
    orphans = [key for key in listed if key not in kept and key < stop_of.get(key.rpartition("/")[0], "")]
    for key in orphans:
        store.delete(key)
    return len(orphans)


def _follow(
    stored: FollowerObject, known: DeadLetterList, ends: Mapping[ChainId, ChainEnd], progress: Progress | None
) -> DeadLetterList:
    before = known.checkpoint
    try:
        for number, batch in enumerate(follow(stored.store, known.checkpoint, ends=ends), start=1):
            known.take(batch)
            if progress:
                progress(_offsets(known.checkpoint.ends) - _offsets(before.ends), _lag(before, ends))
            if number % _SAVED_EVERY == 0:
                stored.save(known.to_json())
    except LostCheckpointError:
        return _follow(stored, DeadLetterList(), ends, progress)
    finally:
        if known.checkpoint != before:
            stored.save(known.to_json())
    return known


def _offsets(ends: Mapping[ChainId, int]) -> int:
    return sum(ends.values())


def _lag(before: Checkpoint, ends: Mapping[ChainId, ChainEnd]) -> int:
    return sum(max(end.offset - before.ends.get(chain, 0), 0) for chain, end in ends.items())


def _named(record: RecordReference, number: Mapping[ChainId, int]) -> Iterable[int]:
    return number[record.chain], record.offset


def _age(buried: BuriedRecord) -> tuple[float, int, RecordReference]:
    time = buried.letter.timestamp
    return (time.timestamp() if time else float("-inf"), buried.letter.offset, buried.reference)
