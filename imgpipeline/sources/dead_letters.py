"""Announces dead letters again, and shows one in full: the reason, the record, the run that found it, what to do next.

The record is sent unchanged, with the headers `replay_of` and `replay_timestamp_ms`. The dead letter stays in the
ledger. The frame has the identity that the first record would have given it, so it never counts twice. A dead letter
that cannot be announced is reported with the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from imgpipeline.contracts.keys import ChainId, is_import, segment_key
from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.contracts.records import (
    REPLAY_OF,
    REPLAY_TIMESTAMP,
    LogRange,
    Partition,
    RawRecord,
    RecordReference,
    parse_reference,
    resolve_reference,
)
from imgpipeline.errors import DeadLetterCode, ImgpipelineError, PermanentError
from imgpipeline.ledger.chain import current_chain, find_current_end
from imgpipeline.ledger.dead_letters import (
    BuriedRecord,
    LetterState,
    Progress,
    Wanted,
    find_dead_letters,
    fix_ends_by_list,
    locate_dead_letter,
    read_raw_record,
)
from imgpipeline.ledger.segment import SegmentHeader
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, read_range, read_record
from imgpipeline.stream.log import read_log
from imgpipeline.stream.send import BatchSender, Record

_IDLE_S = 30.0
_BATCH = 100
_ROW_BYTES = 16
_REPLAY = "`imgpipeline dead-letters replay`"
NEXT_STEPS = {
    DeadLetterCode.INVALID_MESSAGE: "fix the producer and announce the frame again; the message above names the field",
    DeadLetterCode.PATH_NOT_ALLOWED: "if the image may be read, add its location to "
    f"IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS, then {_REPLAY}",
    DeadLetterCode.TIMESTAMP_OUT_OF_RANGE: "fix the clock of the source; if the time is right, set "
    f"IMGPIPELINE_FIRST_DAY or IMGPIPELINE_MAX_FUTURE_S, then {_REPLAY}",
    DeadLetterCode.TOO_LARGE: "raise IMGPIPELINE_MAX_IMAGE_BYTES or IMGPIPELINE_MAX_MESSAGE_BYTES to accept it, "
    f"then {_REPLAY}",
    DeadLetterCode.OBJECT_NOT_FOUND: f"upload the image to the path above, then {_REPLAY}",
    DeadLetterCode.OBJECT_FORBIDDEN: f"let the store's user read the image, then {_REPLAY}",
    DeadLetterCode.EMPTY_OBJECT: f"upload the complete image again, then {_REPLAY}",
    DeadLetterCode.DECODE_FAILED: f"check the image and upload a complete one, then {_REPLAY}",
    DeadLetterCode.IMAGE_TOO_LARGE: f"raise IMGPIPELINE_MAX_IMAGE_PIXELS if memory allows, then {_REPLAY}",
    DeadLetterCode.HASH_MISMATCH: f"upload the image that was announced, then {_REPLAY}",
    DeadLetterCode.PROCESS_CRASHED: "keep the image and report the fault; once a release can read it, run "
    "`imgpipeline dead-letters replay --code PROCESS_CRASHED`",
    DeadLetterCode.BAD_ROW: "correct the row in a separate file, and import it under another --name",
}
NOT_STORED = "the raw record is not stored: it was too large to keep, or was removed"


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What a replay will announce, and what it will not."""

    chosen: tuple[BuriedRecord, ...]
    """The dead letters to announce again, the earliest first."""
    resolved: int
    under_way: int
    """Matching dead letters that were announced again, but no run has processed their new records yet."""
    crashed: int
    """Matching dead letters that crashed the process. They are replayed only if their code is named."""
    imported: int
    """Matching dead letters that are rows of imports, for which Kafka has no records."""
    chains: Mapping[Partition, ChainId]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A dead letter that could not be announced again. It does not change."""

    record: RecordReference
    reason: str


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result of a replay."""

    announced: int
    refused: tuple[Refusal, ...]


class NoRecordError(PermanentError):
    """The record of one dead letter no longer exists, or cannot be announced again."""


def plan_replay(
    settings: Settings, store: ObjectStore, wanted: Wanted, *, again: bool = False, progress: Progress | None = None
) -> ReplayPlan:
    """Chooses the dead letters to announce again.

    If a record failed several times, the plan has only its last dead letter.

    Args:
        again: Include dead letters that became frames or are under way.

    Raises:
        ConfigurationError: There is no such topic, or a setting keeps the broker from answering.
        LedgerError: A segment cannot be read.
        TransientError: Store or broker do not answer.
    """
    fixed = fix_ends_by_list(store)
    ends = {chain: end.offset for chain, end in fixed.items()}
    closed = {chain for chain, end in fixed.items() if end.is_closed}
    logs = read_log(settings)
    chains = {log.at: current_chain(log.chain, closed) for log in logs}
    found, trail = find_dead_letters(store, wanted, ends=fixed, progress=progress)
    announced = _read_backlog(settings, logs, chains, ends, progress)
    waiting = {trail.root(record) for record in announced}
    imported = sum(is_import(buried.reference.chain) for buried in found)
    found = [buried for buried in found if not is_import(buried.reference.chain)]
    there = {buried.reference for buried in found}
    is_open = [buried for buried in found if buried.state is LetterState.OPEN]
    idle = [buried for buried in is_open if trail.root(buried.reference) not in waiting]
    chosen = [buried for buried in found if buried.became not in there] if again else idle
    # Each of these records ends several runs before it becomes a dead letter again.
    safe = [b for b in chosen if wanted.code is not None or b.letter.code is not DeadLetterCode.PROCESS_CRASHED]
    return ReplayPlan(
        chosen=tuple(sorted(safe, key=lambda buried: buried.reference)),
        resolved=sum(buried.state is LetterState.RESOLVED for buried in found),
        under_way=len(is_open) - len(idle),
        crashed=len(chosen) - len(safe),
        imported=imported,
        chains=chains,
    )


def _read_backlog(
    settings: Settings,
    logs: Sequence[LogRange],
    chains: Mapping[Partition, ChainId],
    ends: Mapping[ChainId, int],
    progress: Progress | None,
) -> set[RecordReference]:
    """Returns the dead letters that records after the ends announce again; no run has processed these records yet."""
    ends_of_logs = {log.at: log.log_end for log in logs}
    starts = {log.at: max(log.log_start, ends.get(chains[log.at], 0)) for log in logs}
    starts = {at: start for at, start in starts.items() if start < ends_of_logs[at]}
    found: set[RecordReference] = set()
    if not starts:
        return found
    positions = dict(starts)
    with open_consumer(settings, **FETCH_OPTIONS) as consumer:
        for record in read_range(consumer, starts, ends_of_logs, idle_s=_IDLE_S):
            positions[record.at] = record.offset + 1
            if record.replay_of and (meant := resolve_reference(record.replay_of, chains[record.at])):
                found.add(meant)
            if progress:
                total = sum(ends_of_logs[at] - start for at, start in starts.items())
                progress(sum(positions[at] - start for at, start in starts.items()), total)
    return found


def replay(
    settings: Settings, store: ObjectStore, plan: ReplayPlan, *, progress: Progress | None = None
) -> ReplayResult:
    """Announces the dead letters that a plan has chosen.

    Args:
        progress: Called with the number of records handled and the total.

    Raises:
        TransientError: Store or broker do not answer. Records announced before that are under way; call again.
        ConfigurationError: A setting keeps the broker from answering.
    """
    refused: list[Refusal] = []
    batch: list[Record] = []
    carried_by = [chain for at, chain in plan.chains.items() if at.topic == settings.kafka_topic]
    with closing(BatchSender(settings, topics=(settings.kafka_topic,))) as sender:
        raws = map_ahead(lambda buried: read_raw_record(store, buried.reference.chain, buried.letter), plan.chosen)
        for done, (buried, raw) in enumerate(zip(plan.chosen, raws, strict=True)):
            try:
                original = raw or read_from_kafka(settings, buried.reference, buried.letter, lambda: plan.chains)
                headers = [*_without_replay(original.headers), *_headers(buried.reference, buried.letter, carried_by)]
                _check_size(settings, original, headers)
            except NoRecordError as error:
                refused.append(Refusal(buried.reference, error.message))
            else:
                batch.append(Record(settings.kafka_topic, original.key, original.value, tuple(headers)))
            if len(batch) >= _BATCH or done + 1 == len(plan.chosen):
                sender.send(batch)
                batch.clear()
            if progress:
                progress(done + 1, len(plan.chosen))
    return ReplayResult(len(plan.chosen) - len(refused), tuple(refused))


def read_from_kafka(
    settings: Settings, at: RecordReference, letter: DeadLetter, present: Callable[[], Mapping[Partition, ChainId]]
) -> RawRecord:
    """Returns the record of a dead letter that is not stored, from Kafka.

    Args:
        present: Returns the current chain of each partition (`present_chains`); called only before Kafka is read.

    Raises:
        NoRecordError: The record has no value, or Kafka does not have it.
        TransientError: The broker does not answer.
        ConfigurationError: A setting keeps the broker from answering.
    """
    if letter.raw_sha256 is None:
        raise NoRecordError("its value is null, so it cannot become a frame")
    if is_import(at.chain):
        raise NoRecordError(f"{NOT_STORED}; it is still in the imported file that the message above names")
    partition = Partition(at.chain.topic, at.chain.partition)
    if present().get(partition) != at.chain:
        raise NoRecordError(f"{NOT_STORED}, and its topic has been replaced")
    record = read_record(settings, partition, at.offset)
    if record is None or record.value is None:
        raise NoRecordError(f"{NOT_STORED}, and Kafka has dropped it")
    if sha256(record.value).hexdigest() != letter.raw_sha256:
        raise NoRecordError(f"{NOT_STORED}, and Kafka has another record there now")
    return RawRecord(record.value, record.key, record.headers)


def present_chains(settings: Settings, store: ObjectStore) -> dict[Partition, ChainId]:
    """Returns the current chain of each partition of the topics; errors as `plan_replay`."""
    return {log.at: find_current_end(store, log.chain).chain for log in read_log(settings)}


def _without_replay(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in (REPLAY_OF, REPLAY_TIMESTAMP)]


def _headers(at: RecordReference, letter: DeadLetter, carried_by: Sequence[ChainId]) -> list[tuple[str, bytes]]:
    headers = [(REPLAY_OF, at.to_header(carried_by).encode())]
    if letter.timestamp is not None:
        headers.append((REPLAY_TIMESTAMP, b"%d" % round(letter.timestamp.timestamp() * 1000)))
    return headers


def _check_size(settings: Settings, original: RawRecord, headers: Sequence[tuple[str, bytes]]) -> None:
    """Refuses a record that the pipeline or the producer would reject as too large; the overhead is below 1 kB."""
    size_bytes = replace(original, headers=tuple(headers)).size_bytes + 1024
    if size_bytes > settings.max_message_bytes:
        raise NoRecordError(
            f"with {size_bytes} bytes it is larger than IMGPIPELINE_MAX_MESSAGE_BYTES ({settings.max_message_bytes})"
        )


@dataclass(frozen=True, slots=True)
class LetterDetails:
    """All details of one dead letter."""

    buried: BuriedRecord
    letter: DeadLetter
    segment: SegmentHeader
    original: RawRecord | None
    """Its record; None if it no longer exists."""
    missing: str

    @property
    def next_step(self) -> str:
        """What to do about it, for a person."""
        if is_import(self.buried.reference.chain):
            return NEXT_STEPS[DeadLetterCode.BAD_ROW]
        if self.buried.became is None:
            return NEXT_STEPS[self.letter.code]
        return f"nothing: it was announced again and is {self.buried.state.value} by {self.buried.became}"

    def to_json(self) -> dict[str, Any]:
        """Returns the document of `--json`."""
        provenance = self.segment.provenance
        return {
            **document(self.buried),
            **(self.original.to_json() if self.original else {}),
            "segment": segment_key(self.segment.chain, self.segment.start),
            "run_id": provenance.run_id,
            "model_used": provenance.model_name,
            "model_sha256": provenance.model_sha256,
            "processed_at": self.segment.created_at,
            "value_missing": self.missing or None,
            "next_step": self.next_step,
        }


def document(buried: BuriedRecord) -> dict[str, Any]:
    """Returns a dead letter and its state as one JSON object."""
    chain = buried.reference.chain
    where = {"topic": chain.topic, "topic_id": chain.topic_id, "partition": chain.partition}
    became = str(buried.became) if buried.became else None
    time = {"timestamp": buried.letter.timestamp}
    return where | buried.letter.to_json() | time | {"state": buried.state.value, "became": became}


def read_details(
    settings: Settings,
    store: ObjectStore,
    name: str,
    *,
    progress: Progress | None = None,
    present: Callable[[], Mapping[Partition, ChainId]] | None = None,
) -> LetterDetails:
    """Reads all details of one dead letter.

    Args:
        settings: The broker, which may still have a record that is not stored.
        name: `topic/partition/offset`, optionally followed by `@topic id`.
        present: Returns the current chain of each partition; None: asks the broker.

    Raises:
        ConfigurationError: There is no such dead letter.
        LedgerError: A segment cannot be read.
    """
    topic, topic_id, partition, offset = parse_reference(name)
    segment = locate_dead_letter(store, topic, topic_id, partition, offset)
    at = RecordReference(segment.header.chain, offset)
    [letter] = [o for o in segment.outcomes() if isinstance(o, DeadLetter) and o.offset == offset]
    found, _ = find_dead_letters(store, Wanted(letter.code, letter.day, letter.source), progress=progress)
    [buried] = [buried for buried in found if buried.reference == at]
    original, missing = None, ""
    try:
        original = read_raw_record(store, at.chain, letter) or read_from_kafka(
            settings, at, letter, present or (lambda: present_chains(settings, store))
        )
    except ImgpipelineError as error:
        missing = error.message
    return LetterDetails(buried, letter, segment.header, original, missing)


def as_text(raw: bytes) -> str | None:
    """Returns bytes as text if they are UTF-8 without control characters other than white space; otherwise None."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if all(c.isprintable() or c in "\n\r\t" for c in text) else None


def readable(raw: bytes, most_bytes: int) -> list[str]:
    """Returns up to `most_bytes` of a value as one text or, if it is not text, as rows of hexadecimal digits."""
    part = raw[:most_bytes]
    text = as_text(part) or (as_text(part.decode("utf-8", "ignore").encode()) if len(part) < len(raw) else None)
    if text is not None:
        return [text]
    return [_hex_row(start, part[start : start + _ROW_BYTES]) for start in range(0, len(part), _ROW_BYTES)]


def _hex_row(start: int, raw: bytes) -> str:
    readable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in raw)
    return f"{start:08x}  {raw.hex(' '):{_ROW_BYTES * 3}} {readable}"
