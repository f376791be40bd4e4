"""Fetches the records of a lane and accounts for every offset.

The steps of a partition cover its offsets without gap or overlap: offsets for which Kafka has no record (transaction
markers, aborted or compacted records) are a `Hole`, which `gap_reasons` explains. The consumer's position, not the last
record, says how far was read, so a range may end in offsets without records.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import LogTruncationError, OffsetOutOfRangeError, UnsupportedCodecError

from imgpipeline.contracts.records import KafkaRecord, Partition
from imgpipeline.errors import ConfigurationError, TransientError
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import kafka_errors, open_consumer

_POLL_RECORDS = 200
_PARTITION_BYTES = 128 * 2**10
_FETCH_BYTES = 32 * 2**20
_READ_ONE_MS = 5_000

FETCH_OPTIONS: dict[str, Any] = {
    "max_poll_records": _POLL_RECORDS,
    "max_partition_fetch_bytes": _PARTITION_BYTES,
    "fetch_max_bytes": _FETCH_BYTES,
    "fetch_max_wait_ms": 200,
    "check_crcs": True,
}
"""Bounded, so that memory stays flat however long the backlog is; a larger record is still fetched, alone.
The records of one partition are handed out before those of the next: some 500 announcements, which is seconds of
detection. More would let one camera's backlog starve the others."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A half-open range of offsets for which Kafka has no readable record."""

    at: Partition
    """Where it is."""
    start: int
    """First offset of the hole."""
    end: int
    """First offset after the hole."""


class LaneFetcher:
    """Reads some partitions from given positions on. Used by one thread at a time."""

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
        consumer.assign(list(self._partitions.values()))
        for partition, assigned in self._partitions.items():
            consumer.seek(assigned, positions[partition])

    def drop(self, partition: Partition) -> None:
        """Stops reading a partition."""
        if self._partitions.pop(partition, None) is not None:
            del self._next[partition]
            self._consumer.assign(list(self._partitions.values()))
            for other, kept in self._partitions.items():
                self._consumer.seek(kept, self._next[other])

    def poll(self, timeout_s: float) -> list[KafkaRecord | Hole]:
        """Returns the next steps, in the order of offsets within a partition; none after the time-out.

        Raises:
            ConfigurationError: Records are compressed by a codec whose library is not installed.
            TransientError: The log was truncated while it was read, or the broker does not answer. The next run
                checks again.
        """
        if not self._partitions:
            return []
        with kafka_errors(self._settings):
            try:
                polled = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
            except (OffsetOutOfRangeError, LogTruncationError) as error:
                raise TransientError(f"The log of {self._named()} moved while it was read.") from error
            except UnsupportedCodecError as error:
                raise ConfigurationError(
                    f"The records of {self._named()} are compressed in a way that cannot be read here: "
                    f"{error.args[0] if error.args else error}.",
                    next_step="install that library (`pip install lz4`, `pip install python-snappy`)",
                ) from error
            steps: list[KafkaRecord | Hole] = []
            for partition, assigned in self._partitions.items():
                steps += self._follow(partition, polled.get(assigned, ()), self._consumer.position(assigned))
            return steps

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
    """Returns the record at one offset, or None if it is gone.

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
