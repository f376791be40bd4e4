"""Hostile records through a real topic and a real lane, and the one promise checked at its end."""

from collections.abc import Sequence
from pathlib import Path

from imgpipeline.detect.run import follow_lane
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.lanes import Lane
from imgpipeline_tests.faults.invariant import Held, check
from imgpipeline_tests.fuzz.border import hostile_settings, store_objects
from imgpipeline_tests.fuzz.cases import FRAME, HostileRecord, Tally
from imgpipeline_tests.servers.kafka_broker import KafkaBroker


def follow_hostile_records(records: Sequence[HostileRecord], broker: KafkaBroker, topic: str, folder: Path) -> Tally:
    """Sends records to Kafka, follows the lane until it is quiet, and compares each offset's outcome with its record.

    Args:
        records: What is sent; those without a time of their own are left out, since Kafka gives each record one.
        broker: A running broker.
        topic: A fresh topic with one partition.
        folder: Where the store is.
    """
    settings = hostile_settings(
        f"file://{folder}", kafka_bootstrap_servers=broker.bootstrap_servers, kafka_topics=(topic,), linger_s=1.0
    )
    store_objects(settings)
    sent = [record for record in records if record.has_time]
    _send(settings, sent)
    follow_lane(settings, Lane(0, 1), run_id="fuzz", report=lambda _: None)
    return _compare(sent, check(settings))


def _send(settings: Settings, records: Sequence[HostileRecord]) -> None:
    with open_producer(settings) as producer:
        for record in records:
            # Their time is now: Kafka would soon drop what is older than its retention.
            headers = list(record.headers)
            producer.send(settings.kafka_topic, value=record.value, key=record.key, headers=headers)
        producer.flush()


def _compare(sent: Sequence[HostileRecord], held: Held) -> Tally:
    outcomes = {frame["source_kafka_offset"]: FRAME for frame in held.frames}
    outcomes |= {letter["offset"]: letter["code"] for letter in held.dead_letters}
    tally = Tally()
    for offset, record in enumerate(sent):
        tally.add(record.kind, outcomes.get(offset, "nothing"), record.expected, record.value)
    return tally
