"""The list of all dead letters and replays: a stored object that follows the ledger (`checkpoint.FollowerObject`).

So listing dead letters only reads the segments since the last time. A lost or damaged list is rebuilt from the start of
the ledger.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from imgpipeline.contracts.keys import OFFSET_LIMIT, RAW_RECORDS, ChainId, raw_record_key
from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.contracts.records import RecordReference
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.ledger.checkpoint import Checkpoint, FollowerObject
from imgpipeline.ledger.days import read_day
from imgpipeline.ledger.dead_letters import BuriedRecord, LetterState, Progress, ReplayTrail, Wanted, may_have_moved
from imgpipeline.ledger.follow import Batch, LostCheckpointError, OffsetRange, follow
from imgpipeline.ledger.reading import ChainEnd, fix_ends
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectStore

_VERSION = 2
_MOST_BYTES = 2**30
_SAVED_EVERY = 40
"""Number of batches after which the list is saved, so that an interrupted call loses little work."""
_NAME = "dead_letters"


@dataclass(slots=True)
class DeadLetterList:
    """All dead letters up to a checkpoint."""

    letters: dict[RecordReference, BuriedRecord] = field(default_factory=dict)
    """The dead letters, in the state open."""
    trail: ReplayTrail = field(default_factory=ReplayTrail)
    """The replays."""
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    """How far the ledger was followed."""

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
    return fix_ends(store, known.checkpoint.hints if known else None)


def find_dead_letters(
    store: ObjectStore,
    wanted: Wanted,
    *,
    ends: Mapping[ChainId, ChainEnd] | None = None,
    progress: Progress | None = None,
) -> tuple[list[BuriedRecord], ReplayTrail]:
    """Finds matching dead letters in any state.

    Updates the stored list. If there is no list yet and a day is given, reads only that day, unless a replay may have
    moved a record to another day.

    Args:
        store: The object store.
        wanted: Selects the dead letters.
        ends: Fixed ends of all chains (`fix_ends_by_list`). Default: read them now.
        progress: Called with the progress.

    Returns:
        The dead letters, the latest first (by the times of their records), and the replays.

    Raises:
        LedgerError: A segment cannot be read.
        TransientError: The store does not answer.
    """
    stored = FollowerObject(store, _NAME, _MOST_BYTES)
    known = stored.load(DeadLetterList.from_json)
    if known is None and wanted.day is not None:
        of_day = DeadLetterList()
        ends = fix_ends(store) if ends is None else ends
        for segment in read_day(store, wanted.day, {chain: end.offset for chain, end in ends.items()}):
            of_day.add(segment)
        found = of_day.find(wanted)
        if not any(buried.state is LetterState.OPEN and may_have_moved(buried) for buried in found):
            return found, of_day.trail
    known = known or DeadLetterList()
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
