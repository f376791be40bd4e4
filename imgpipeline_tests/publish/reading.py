"""Reading what was published, as a consumer with `read_committed` does."""

import contextlib
import json
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from imgpipeline.settings import Settings
from imgpipeline_tests.servers.waiting import wait_until

MARKED_S = 10.0
"""By then the broker has written the end of a committed transaction into the log; a killed sender leaves none."""


def records_of(settings: Settings, topic: str) -> list[Any]:
    """Return what a consumer with `read_committed` gets.

    A commit is acknowledged before its end is written into the log, and a consumer stops there until then. So the last
    stable offset is waited for where it is behind the log's end.
    """
    at = TopicPartition(topic, 0)
    log_end = _end_of(settings, at, "read_uncommitted")
    with contextlib.suppress(TimeoutError):
        wait_until(
            lambda: _end_of(settings, at, "read_committed") >= log_end, limit_s=MARKED_S, what="the end of a commit"
        )
    end = _end_of(settings, at, "read_committed")
    consumer = _consumer(settings, "read_committed")
    try:
        consumer.assign([at])
        consumer.seek_to_beginning()
        records = []
        while consumer.position(at) < end:
            for found in consumer.poll(timeout_ms=200).values():
                records += found
        return records
    finally:
        consumer.close()


def documents_of(settings: Settings, topic: str) -> list[Any]:
    """Return the JSON documents of these records."""
    return [json.loads(record.value) for record in records_of(settings, topic)]


def _end_of(settings: Settings, at: TopicPartition, isolation: str) -> int:
    consumer = _consumer(settings, isolation)
    try:
        return int(consumer.end_offsets([at])[at])
    finally:
        consumer.close()


def _consumer(settings: Settings, isolation: str) -> KafkaConsumer:
    return KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, isolation_level=isolation, group_id=None)
