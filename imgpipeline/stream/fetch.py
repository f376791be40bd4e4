"""Fetches the records of a lane and accounts for every offset; reads ranges of logs for everybody else.

The steps of a partition cover its offsets without gap or overlap. Offsets for which Kafka has no record (transaction
markers, aborted or compacted records) are a `Hole`, which `HoleExplainer` explains. The consumer's position, not the
last record, determines the end, so a range may end in offsets without records.
"""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
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
_READ_ONE_S = 5.0
_EXPLAIN_S = 2.0
_POLL_S = 0.1
_POLL_MS = 200
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


@dataclass(frozen=True, slots=True)
class Hole:
    """A half-open range of offsets for which Kafka has no readable record."""

    at: Partition
    start: int
    end: int


class LaneFetcher:
    """Reads partitions from given offsets on. Used by one thread at a time.

    The consumer returns all fetched records of one partition before those of the next, so the backlog of one camera
    would starve the others. Therefore records wait here, and their partitions take turns. A partition of which enough
    records wait is paused, and the consumer keeps what it has fetched of it.
    """

    def __init__(self, consumer: KafkaConsumer, settings: Settings, positions: Mapping[Partition, int]) -> None:
        """Starts to fetch."""
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


class SilentBrokerError(TransientError):
    """The broker did not send records that it should have."""


def read_range(
    consumer: KafkaConsumer, starts: Mapping[Partition, int], ends: Mapping[Partition, int], *, idle_s: float
) -> Iterator[KafkaRecord]:
    """Yields the records of partitions from their starts up to their ends, in the order of each partition's offsets.

    Args:
        starts: First offset to read, by partition.
        ends: First offset that is not read, by partition.
        idle_s: How long to wait without a record.

    Raises:
        SilentBrokerError: No record arrived for `idle_s` although a partition has not reached its end.
    """
    consumer.assign([TopicPartition(*at) for at in starts])
    for at, offset in starts.items():
        consumer.seek(TopicPartition(*at), offset)
    heard_s = time.monotonic()
    while late := [at for at in starts if consumer.position(TopicPartition(*at)) < ends[at]]:
        if time.monotonic() - heard_s > idle_s:
            raise SilentBrokerError(
                f"The broker did not send {late[0].topic}/{late[0].number} up to {ends[late[0]]} in time.",
                next_step="check the broker, then run the command again",
            )
        for where, records in consumer.poll(timeout_ms=_POLL_MS).items():
            heard_s = time.monotonic()
            at = Partition(*where)
            yield from (to_record(record) for record in records if starts[at] <= record.offset < ends[at])


def read_record(settings: Settings, partition: Partition, offset: int) -> KafkaRecord | None:
    """Returns the record at an offset; None if it was deleted.

    Raises:
        TransientError: The broker did not answer.
    """
    where = TopicPartition(*partition)
    with open_consumer(settings, isolation_level="read_uncommitted", max_poll_records=1) as consumer:
        if not consumer.beginning_offsets([where])[where] <= offset < consumer.end_offsets([where])[where]:
            return None
        return next(read_range(consumer, {partition: offset}, {partition: offset + 1}, idle_s=_READ_ONE_S), None)


class Edge(StrEnum):
    """An end of a log: the first or the last record that Kafka still has."""

    BEGINNING = "beginning"
    END = "end"


ReadFrom = Edge | int | datetime
"""Where to start in each partition: at an edge, at an offset, or at the first record since a time."""


def peek(
    settings: Settings, logs: Sequence[LogRange], start: ReadFrom, *, limit: int, idle_s: float
) -> list[KafkaRecord]:
    """Returns records between the start and the ends of the logs, in the order of their times, for display.

    Args:
        start: Where to start; `Edge.END` returns the last records.

    Raises:
        ConfigurationError: A setting is wrong.
        TransientError: The broker does not answer.
    """
    found: dict[Partition, list[KafkaRecord]] = {log.at: [] for log in logs}
    ends = {log.at: log.log_end for log in logs}
    with open_consumer(settings, **FETCH_OPTIONS) as consumer, contextlib.suppress(SilentBrokerError):
        for record in read_range(consumer, _starts(consumer, logs, start, limit), ends, idle_s=idle_s):
            if len(found[record.at]) < limit:
                found[record.at].append(record)
    records = sorted((r for some in found.values() for r in some), key=lambda r: (r.timestamp_ms, r.at, r.offset))
    return records[-limit:] if start is Edge.END else records[:limit]


def follow(
    settings: Settings, logs: Sequence[LogRange], start: ReadFrom, shown: Sequence[KafkaRecord], *, idle_s: float
) -> Iterator[KafkaRecord]:
    """Yields the records since the start that `peek` did not return, then new ones, until none arrives for `idle_s`.

    Args:
        start: Where to start; `Edge.END` yields only new records.
        shown: What `peek` returned.
    """
    known = {(record.at, record.offset) for record in shown}
    ends = dict.fromkeys((log.at for log in logs), sys.maxsize)
    with open_consumer(settings, **FETCH_OPTIONS) as consumer, contextlib.suppress(SilentBrokerError):
        records = read_range(consumer, _starts(consumer, logs, start, limit=0), ends, idle_s=idle_s)
        yield from (record for record in records if (record.at, record.offset) not in known)


def _starts(consumer: KafkaConsumer, logs: Sequence[LogRange], start: ReadFrom, limit: int) -> dict[Partition, int]:
    if start is Edge.BEGINNING:
        return {log.at: log.log_start for log in logs}
    if isinstance(start, datetime):
        at_ms = int(start.timestamp() * 1000)
        found = consumer.offsets_for_times({TopicPartition(*log.at): at_ms for log in logs})
        offsets = {Partition(*where): first.offset for where, first in found.items() if first is not None}
        return {log.at: offsets.get(log.at, log.log_end) for log in logs}
    first = {log.at: log.log_end - limit if start is Edge.END else int(start) for log in logs}
    return {log.at: min(max(first[log.at], log.log_start), log.log_end) for log in logs}


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
    until_s = time.monotonic() + _READ_ONE_S
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
            # Offsets that were not seen count as absent, so a read that ends early must fail.
            there = read_range(self._consumer, {hole.at: hole.start}, {hole.at: hole.end}, idle_s=_EXPLAIN_S)
            return cover_hole(hole, (record.offset for record in there), self._absent[topic])


def cover_hole(hole: Hole, there: Iterable[int], absent: GapReason) -> list[Gap]:
    """Returns the gaps that cover a hole, without visiting each offset, since a compacted hole may have billions.

    Args:
        there: Offsets in the hole that have a record, ascending.
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
    return "compact" in str(described["topic"][topic].get("cleanup.policy"))
