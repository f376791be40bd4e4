"""Reads records of the topics for display. Uses no consumer group, so it commits nothing."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from kafka import KafkaConsumer, TopicPartition

from imgpipeline.contracts.records import KafkaRecord, LogRange, Partition
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, to_record

_POLL_MS = 200


class Edge(StrEnum):
    """An end of a log."""

    BEGINNING = "beginning"
    """The first record that Kafka still has."""
    END = "end"
    """The last record."""


Start = Edge | int | datetime
"""Where to start in each partition: at an edge, at an offset, or at the first record since a time."""


def peek(settings: Settings, logs: Sequence[LogRange], start: Start, *, limit: int, idle_s: float) -> list[KafkaRecord]:
    """Returns records between the start and the ends of the logs, in the order of their times.

    Args:
        settings: Name the broker.
        logs: The partitions to read.
        start: Where to start; `Edge.END` returns the last records.
        limit: Maximum number of records.
        idle_s: Stop waiting after this many seconds without a record.

    Raises:
        ConfigurationError: A setting is wrong.
        TransientError: The broker does not answer.
    """
    found: dict[Partition, list[KafkaRecord]] = {log.at: [] for log in logs}
    with open_consumer(settings, **FETCH_OPTIONS) as consumer:
        begins = _begins(consumer, logs, start, limit)
        ends = {log.at: log.log_end for log in logs if begins[log.at] < log.log_end}
        for record in _read(consumer, {at: begins[at] for at in ends}, idle_s, ends):
            if record.offset < ends[record.at] and len(found[record.at]) < limit:
                found[record.at].append(record)
    records = sorted((r for some in found.values() for r in some), key=lambda r: (r.timestamp_ms, r.at, r.offset))
    return records[-limit:] if start is Edge.END else records[:limit]


def follow(
    settings: Settings, logs: Sequence[LogRange], start: Start, shown: Sequence[KafkaRecord], *, idle_s: float
) -> Iterator[KafkaRecord]:
    """Yields the records since the start that `peek` did not return, then new ones; errors as `peek`.

    Args:
        settings: Name the broker.
        logs: The partitions to follow.
        start: Where to start; `Edge.END` yields only new records.
        shown: What `peek` returned.
        idle_s: Stop after this many seconds without a record.
    """
    known = {(record.at, record.offset) for record in shown}
    with open_consumer(settings, **FETCH_OPTIONS) as consumer:
        records = _read(consumer, _begins(consumer, logs, start, limit=0), idle_s, {})
        yield from (record for record in records if (record.at, record.offset) not in known)


def _begins(consumer: KafkaConsumer, logs: Sequence[LogRange], start: Start, limit: int) -> dict[Partition, int]:
    if start is Edge.BEGINNING:
        return {log.at: log.log_start for log in logs}
    if isinstance(start, datetime):
        at_ms = int(start.timestamp() * 1000)
        found = consumer.offsets_for_times({TopicPartition(*log.at): at_ms for log in logs})
        offsets = {Partition(*where): first.offset for where, first in found.items() if first is not None}
        return {log.at: offsets.get(log.at, log.log_end) for log in logs}
    first = {log.at: log.log_end - limit if start is Edge.END else int(start) for log in logs}
    return {log.at: min(max(first[log.at], log.log_start), log.log_end) for log in logs}


def _read(
    consumer: KafkaConsumer, begins: Mapping[Partition, int], idle_s: float, ends: Mapping[Partition, int]
) -> Iterator[KafkaRecord]:
    """Yields records until all ends are reached, if there are any, or until no record arrives for `idle_s`."""
    consumer.assign([TopicPartition(*at) for at in begins])
    for at, offset in begins.items():
        consumer.seek(TopicPartition(*at), offset)
    heard_s = time.monotonic()
    while begins and time.monotonic() - heard_s < idle_s:
        polled = consumer.poll(timeout_ms=_POLL_MS)
        for records in polled.values():
            yield from map(to_record, records)
            heard_s = time.monotonic()
        if ends and all(consumer.position(TopicPartition(*at)) >= end for at, end in ends.items()):
            return
