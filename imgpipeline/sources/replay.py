"""Announces dead letters again: sends their records unchanged, with the headers `replay_of` and `replay_timestamp_ms`.

The dead letter stays in the ledger. The frame has the identity that the first record would have given it, so it never
counts twice. A dead letter that cannot be announced is reported with the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from imgpipeline.contracts.keys import ChainId, is_import
from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.contracts.records import (
    REPLAY_OF,
    REPLAY_TIMESTAMP,
    KafkaRecord,
    LogRange,
    Partition,
    RawRecord,
    RecordReference,
    resolve_reference,
)
from imgpipeline.errors import DeadLetterCode, PermanentError, TransientError
from imgpipeline.ledger import current_chain, find_current_end
from imgpipeline.ledger.dead_letters import (
    BuriedRecord,
    LetterState,
    Progress,
    Wanted,
    find_dead_letters,
    fix_ends_by_list,
    read_raw_record,
)
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, LaneFetcher, read_record
from imgpipeline.stream.log import read_log
from imgpipeline.stream.send import Announcer

_POLL_S = 0.5
_IDLE_POLLS = 60
NOT_STORED = "the raw record is not stored: it was too large to keep, or was removed"
"""Why a record is not read from the store."""


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What a replay will announce, and what it will not."""

    chosen: tuple[BuriedRecord, ...]
    """The dead letters to announce again, the earliest first."""
    resolved: int
    """Matching dead letters that have become frames."""
    under_way: int
    """Matching dead letters that were announced again, but no run has processed their new records yet."""
    crashed: int
    """Matching dead letters that crashed the process. They are replayed only if their code is named."""
    imported: int
    """Matching dead letters that are rows of imports, for which Kafka has no records."""
    chains: Mapping[Partition, ChainId]
    """The current chain of each partition of the topics."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A dead letter that could not be announced again. It does not change."""

    record: RecordReference
    """Which dead letter."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result of a replay."""

    announced: int
    """Records that Kafka has acknowledged."""
    refused: tuple[Refusal, ...]
    """Dead letters that could not be announced."""


class NoRecordError(PermanentError):
    """The record of one dead letter no longer exists, or cannot be announced again."""


def plan_replay(
    settings: Settings, store: ObjectStore, wanted: Wanted, *, again: bool = False, progress: Progress | None = None
) -> ReplayPlan:
    """Chooses the dead letters to announce again.

    Args:
        settings: Broker and topic.
        store: The object store.
        wanted: Which dead letters.
        again: Include dead letters that became frames or are under way.
        progress: Called with the offsets read.

    Returns:
        The plan. If a record failed several times, the plan has only its last dead letter.

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
    positions = {log.at: max(log.log_start, ends.get(chains[log.at], 0)) for log in logs}
    targets = {log.at: log.log_end for log in logs if positions[log.at] < log.log_end}
    begins = {at: positions[at] for at in targets}
    found: set[RecordReference] = set()
    if not targets:
        return found
    with open_consumer(settings, **FETCH_OPTIONS) as consumer:
        fetcher, idle = LaneFetcher(consumer, settings, begins), 0
        while any(positions[at] < end for at, end in targets.items()):
            steps = fetcher.poll(_POLL_S)
            idle = 0 if steps else idle + 1
            if idle > _IDLE_POLLS:
                raise TransientError(
                    "The broker does not deliver the records after the end of the ledger.",
                    next_step="check the broker, then run the command again",
                )
            for step in steps:
                positions[step.at] = step.offset + 1 if isinstance(step, KafkaRecord) else step.end
                if isinstance(step, KafkaRecord) and step.replay_of:
                    meant = resolve_reference(step.replay_of, chains[step.at])
                    found |= {meant} if meant else set()
            if progress:
                read = sum(min(positions[at], end) - begins[at] for at, end in targets.items())
                progress(read, sum(end - begins[at] for at, end in targets.items()))
    return found


def replay(
    settings: Settings, store: ObjectStore, plan: ReplayPlan, *, progress: Progress | None = None
) -> ReplayResult:
    """Announces the dead letters that a plan has chosen.

    Args:
        settings: Broker and topic.
        store: The object store.
        plan: What to announce.
        progress: Called with the number of records handled and the total.

    Returns:
        The result; Kafka has acknowledged every announced record.

    Raises:
        TransientError: Store or broker do not answer. Records announced before that are under way; call again.
        ConfigurationError: A setting keeps the broker from answering.
    """
    refused: list[Refusal] = []
    announced = 0
    carried_by = [chain for at, chain in plan.chains.items() if at.topic == settings.kafka_topic]
    with Announcer(settings) as announcer:
        raws = map_ahead(lambda buried: read_raw_record(store, buried.reference.chain, buried.letter), plan.chosen)
        for done, (buried, raw) in enumerate(zip(plan.chosen, raws, strict=True)):
            try:
                original = raw or read_from_kafka(settings, buried.reference, buried.letter, lambda: plan.chains)
                headers = [*_without_replay(original.headers), *_headers(buried.reference, buried.letter, carried_by)]
                _check_size(settings, original, headers)
            except NoRecordError as error:
                refused.append(Refusal(buried.reference, error.message))
            else:
                announcer.announce_record(original.value, key=original.key, headers=headers)
                announced += 1
            if progress:
                progress(done + 1, len(plan.chosen))
    return ReplayResult(announced, tuple(refused))


def read_from_kafka(
    settings: Settings, at: RecordReference, letter: DeadLetter, present: Callable[[], Mapping[Partition, ChainId]]
) -> RawRecord:
    """Returns the record of a dead letter that is not stored, from Kafka.

    Args:
        settings: Broker and topic.
        at: The offset of the record.
        letter: Its dead letter.
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
