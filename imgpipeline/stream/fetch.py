"""Fetches the records of a lane and accounts for every offset.

The steps of a partition cover its offsets without gap or overlap. Offsets for which Kafka has no record (transaction
markers, aborted or compacted records) are a `Hole`, which `HoleExplainer` explains. The consumer's position, not the
last record, determines the end, so a range may end in offsets without records.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import LogTruncationError, OffsetOutOfRangeError, UnsupportedCodecError

from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.contracts.records import KafkaRecord, LogRange, Partition
from imgpipeline.contracts.times import from_milliseconds
from imgpipeline.errors import ConfigurationError, TransientError
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import kafka_errors, open_admin, open_consumer

_POLL_RECORDS = 200
_PARTITION_BYTES = 128 * 2**10
_FETCH_BYTES = 32 * 2**20
_READ_ONE_MS = 5_000
_POLL_S = 0.1
_UNKNOWN = datetime.fromtimestamp(0, UTC)
"""Stands for the time of a record without one."""

FETCH_OPTIONS: dict[str, Any] = {
    "max_poll_records": _POLL_RECORDS,
    "max_partition_fetch_bytes": _PARTITION_BYTES,
    "fetch_max_bytes": _FETCH_BYTES,
    "fetch_max_wait_ms": 200,
    "check_crcs": True,
}
"""The limits keep memory flat for any backlog; a larger record is still fetched, alone."""
_TURN_STEPS = 16
"""With a slow model, a turn takes seconds. Shorter turns would make smaller segments, which cost more requests."""
_IDLE_POLLS = 10


@dataclass(frozen=True, slots=True)
class Hole:
    """A half-open range of offsets for which Kafka has no readable record."""

    at: Partition
    """The topic and partition."""
    start: int
    """First offset of the hole."""
    end: int
    """First offset after the hole."""


class LaneFetcher:
    """Reads partitions from given offsets on. Used by one thread at a time.

    The consumer returns all fetched records of one partition before those of the next, so the backlog of one camera
    would starve the others. Therefore records wait here, and their partitions take turns. A partition of which enough
    records wait is paused, and the consumer keeps what it has fetched of it.
    """

    def __init__(self, consumer: KafkaConsumer, settings: Settings, positions: Mapping[Partition, int]) -> None:
        """Starts to fetch.

        Args:
            consumer: Opened by `open_consumer`.
            settings: Name the broker.
            positions: First offset to fetch, by partition.
        """
        self._consumer = consumer
        self._settings = settings
        self._next = dict(positions)
        self._partitions = {partition: TopicPartition(*partition) for partition in positions}
        self._ready: dict[Partition, deque[KafkaRecord | Hole]] = {partition: deque() for partition in positions}
        consumer.assign(list(self._partitions.values()))
        for partition, assigned in self._partitions.items():
            consumer.seek(assigned, positions[partition])

    def drop(self, partition: Partition) -> None:
        """Stops reading a partition."""
        if self._partitions.pop(partition, None) is not None:
            del self._next[partition], self._ready[partition]
            self._consumer.assign(list(self._partitions.values()))
            for other, kept in self._partitions.items():
                self._consumer.seek(kept, self._next[other])

    def poll(self, timeout_s: float) -> list[KafkaRecord | Hole]:
        """Returns a few records and holes of each partition, in the order of its offsets; none after the time-out.

        Raises:
            ConfigurationError: Records are compressed by a codec whose library is not installed.
            TransientError: The log was truncated while it was read, or the broker does not answer.
        """
        if any(len(ready) < _POLL_RECORDS for ready in self._ready.values()):
            self._fetch(0.0 if any(self._ready.values()) else timeout_s)
        return [ready.popleft() for ready in self._ready.values() for _ in range(min(_TURN_STEPS, len(ready)))]

    def _fetch(self, timeout_s: float) -> None:
        with kafka_errors(self._settings):
            self._consumer.resume(*self._partitions.values())
            full = (partition for partition, ready in self._ready.items() if len(ready) >= _POLL_RECORDS)
            self._consumer.pause(*(self._partitions[partition] for partition in full))
            try:
                polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
            except (OffsetOutOfRangeError, LogTruncationError) as error:
                raise TransientError(f"The log of {self._named()} moved while it was read.") from error
            except UnsupportedCodecError as error:
                raise ConfigurationError(
                    f"The compression of records in {self._named()} is not supported here: "
                    f"{error.args[0] if error.args else error}.",
                    next_step="install its library (`pip install lz4`, `pip install python-snappy`)",
                ) from error
            for partition, assigned in self._partitions.items():
                records, position = polled.get(assigned, ()), self._consumer.position(assigned)
                self._ready[partition].extend(self._follow(partition, records, position))

    def _follow(self, partition: Partition, records: Any, position: int | None) -> Iterator[KafkaRecord | Hole]:
        for record in records:
            if record.offset < self._next[partition]:
                continue
            if record.offset > self._next[partition]:
                yield Hole(partition, self._next[partition], record.offset)
            yield to_record(record)
            self._next[partition] = record.offset + 1
        if position is not None and position > self._next[partition]:
            yield Hole(partition, self._next[partition], position)
            self._next[partition] = position

    def _named(self) -> str:
        return ", ".join(sorted({partition.topic for partition in self._partitions}))


def to_record(record: Any) -> KafkaRecord:
    """Converts a record of kafka-python."""
    headers = tuple((str(name), bytes(value or b"")) for name, value in record.headers or ())
    timestamp_ms = -1 if record.timestamp is None else int(record.timestamp)
    return KafkaRecord(record.topic, record.partition, record.offset, timestamp_ms, record.key, record.value, headers)


def read_record(settings: Settings, partition: Partition, offset: int) -> KafkaRecord | None:
    """Returns the record at an offset; None if it was deleted.

    Raises:
        TransientError: The broker did not answer.
    """
    where = TopicPartition(*partition)
    with open_consumer(settings, isolation_level="read_uncommitted", max_poll_records=1) as consumer:
        consumer.assign([where])
        if not consumer.beginning_offsets([where])[where] <= offset < consumer.end_offsets([where])[where]:
            return None
        consumer.seek(where, offset)
        records = consumer.poll(timeout_ms=_READ_ONE_MS).get(where, [])
        position = consumer.position(where)
    if not records and position > offset:
        return None
    if not records:
        raise TransientError(f"The broker did not send {partition}/{offset} in time.")
    return to_record(records[0]) if records[0].offset == offset else None


def find_oldest(settings: Settings, ends: Mapping[LogRange, int]) -> dict[Partition, datetime]:
    """Returns the Kafka time of the first record from an offset of each log on.

    Logs without one are left out, also if only transaction markers and aborted records follow.

    Raises:
        TransientError: The broker did not answer in time.
    """
    starts = {log.at: max(log.log_start, end) for log, end in ends.items()}
    unread = {log.at: log.log_end for log in ends if starts[log.at] < log.log_end}
    oldest: dict[Partition, datetime] = {}
    if not unread:
        return oldest
    until_s = time.monotonic() + _READ_ONE_MS / 1000
    with open_consumer(settings, **FETCH_OPTIONS) as consumer:
        fetcher = LaneFetcher(consumer, settings, {at: starts[at] for at in unread})
        while unread:
            for step in fetcher.poll(_POLL_S):
                if isinstance(step, KafkaRecord):
                    oldest.setdefault(step.at, from_milliseconds(step.timestamp_ms) or _UNKNOWN)
                elif step.at in unread and step.end < unread[step.at]:
                    continue
                unread.pop(step.at, None)
                fetcher.drop(step.at)
            if unread and time.monotonic() > until_s:
                raise TransientError(f"The broker did not send {next(iter(unread))} in time.")
    return oldest


class HoleExplainer:
    """Finds out why Kafka has no record for the offsets of a hole. Thread-safe; threads take turns.

    Reads the hole again without `read_committed`: a record that appears was aborted. Any other offset was compacted if
    the topic is compacted, else it is a transaction marker. (In a compacted topic the two look the same; both count as
    compacted.) The client stays open, since opening one takes a hundred times as long as a request, and if every record
    is a transaction, every second offset is a hole.
    """

    def __init__(self, settings: Settings) -> None:
        """Prepares an explainer; the first hole connects."""
        self._settings = settings
        self._lock = threading.Lock()
        self._clients = contextlib.ExitStack()
        self._consumer: KafkaConsumer | None = None
        self._absent: dict[str, GapReason] = {}

    def __enter__(self) -> Self:
        """Returns the explainer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the client when the current request has finished (a few seconds at most)."""
        with self._lock:
            self._clients.close()

    def explain(self, hole: Hole) -> list[Gap]:
        """Returns the gaps that cover a hole exactly, with their reasons.

        Raises:
            TransientError: The broker does not answer, or not for the whole hole.
        """
        with self._lock, kafka_errors(self._settings):
            topic = hole.at.topic
            if topic not in self._absent:
                with open_admin(self._settings) as admin:
                    compacted = _is_compacted(admin, topic)
                self._absent[topic] = GapReason.COMPACTED if compacted else GapReason.MARKER
            if self._consumer is None:
                options = {**FETCH_OPTIONS, "isolation_level": "read_uncommitted"}
                self._consumer = self._clients.enter_context(open_consumer(self._settings, **options))
            return cover_hole(hole, _offsets_there(self._consumer, TopicPartition(*hole.at), hole), self._absent[topic])


def cover_hole(hole: Hole, there: Iterable[int], absent: GapReason) -> list[Gap]:
    """Returns the gaps that cover a hole, without visiting each offset, since a compacted hole may have billions.

    Args:
        hole: The hole to cover.
        there: Offsets in the hole that have a record, ascending.
        absent: The reason for the other offsets.
    """
    gaps: list[Gap] = []
    position = hole.start
    for offset in there:
        if offset > position:
            gaps.append(Gap(position, offset, absent))
        if gaps and gaps[-1].reason is GapReason.ABORTED and gaps[-1].end == offset:
            gaps[-1] = Gap(gaps[-1].start, offset + 1, GapReason.ABORTED)
        else:
            gaps.append(Gap(offset, offset + 1, GapReason.ABORTED))
        position = offset + 1
    if position < hole.end:
        gaps.append(Gap(position, hole.end, absent))
    return gaps


def _is_compacted(admin: KafkaAdminClient, topic: str) -> bool:
    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return "compact" in str(_find_value(described, "cleanup.policy"))


def _find_value(described: object, name: str) -> object:
    """Finds a setting in the nested dicts and lists that kafka-python returns per resource."""
    if isinstance(described, dict):
        if name in described:
            entry = described[name]
            return entry.get("value", entry) if isinstance(entry, dict) else entry
        if described.get("name") == name:
            return described.get("value")
        described = list(described.values())
    if isinstance(described, list | tuple):
        found = (_find_value(part, name) for part in described)
        return next((value for value in found if value is not None), None)
    return None


def _offsets_there(consumer: KafkaConsumer, where: TopicPartition, hole: Hole) -> Iterator[int]:
    consumer.assign([where])
    consumer.seek(where, hole.start)
    idle = 0
    while consumer.position(where) < hole.end:
        records = consumer.poll(timeout_ms=200).get(where, [])
        yield from (r.offset for r in records if hole.start <= r.offset < hole.end)
        idle = 0 if records else idle + 1
        if idle > _IDLE_POLLS and consumer.position(where) < hole.end:
            # The read ended early, so offsets that were not seen may have records.
            raise TransientError(f"The broker did not send {where.topic}/{where.partition} up to {hole.end}.")
