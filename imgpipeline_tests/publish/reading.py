"""Reading what was published, as a consumer with `read_committed` does."""

import json
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from imgpipeline.settings import Settings


def records_of(settings: Settings, topic: str) -> list[Any]:
    """Return what a consumer with `read_committed` gets."""
    at = TopicPartition(topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers, isolation_level="read_committed", group_id=None
    )
    try:
        consumer.assign([at])
        consumer.seek_to_beginning()
        end = consumer.end_offsets([at])[at]
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
