"""Reads a topic's id and partitions, and the first and last offset of each.

The ids are read from the broker at each call, because the client's fetcher does not notice that a topic was deleted and
re-created.
"""

from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import UnknownTopicOrPartitionError

from imgpipeline.contracts.log import LogRange
from imgpipeline.errors import TransientError
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin
from imgpipeline.stream.diagnosis import missing_topic
from imgpipeline.stream.kafka_internals import READ_COMMITTED


def read_log(settings: Settings) -> list[LogRange]:
    """Returns the log of every partition of the topic, sorted by partition.

    Raises:
        ConfigurationError: The topic does not exist, or a setting keeps the broker from answering.
        TransientError: The broker does not answer, or the topic changed while it was asked.
    """
    with open_admin(settings) as admin:
        return ask_log(admin, settings)


def ask_log(admin: KafkaAdminClient, settings: Settings) -> list[LogRange]:
    """Returns the log of every partition through an open client; errors as `read_log`, broker errors unexplained."""
    topic_id, partitions = ask_topic(admin, settings)
    asked = [TopicPartition(settings.kafka_topic, number) for number in partitions]
    try:
        starts = admin.list_partition_offsets(dict.fromkeys(asked, OffsetSpec.EARLIEST))
        ends = admin.list_partition_offsets(dict.fromkeys(asked, OffsetSpec.LATEST), isolation_level=READ_COMMITTED)
    except UnknownTopicOrPartitionError as error:
        raise TransientError(f"The topic {settings.kafka_topic} changed while it was asked for its offsets.") from error
    if ask_topic(admin, settings)[0] != topic_id:
        raise TransientError(f"The topic {settings.kafka_topic} was created anew while it was asked for its offsets.")
    return [LogRange(settings.kafka_topic, topic_id, tp.partition, starts[tp].offset, ends[tp].offset) for tp in asked]


def ask_topic(admin: KafkaAdminClient, settings: Settings) -> tuple[str, list[int]]:
    """Returns the topic's id and its partitions, sorted.

    Raises:
        ConfigurationError: The topic does not exist.
        TransientError: The broker does not know yet.
    """
    name = settings.kafka_topic
    found: dict[str, Any] = admin.describe_topics([name])[0]
    if found["error_code"] == UnknownTopicOrPartitionError.errno or not (found["error_code"] or found["partitions"]):
        raise missing_topic(settings)
    if found["error_code"]:
        raise TransientError(f"The broker cannot describe the topic {name!r} (code {found['error_code']}).")
    partitions = sorted(part["partition_index"] for part in found["partitions"])
    return topic_id_of(admin, found), partitions


def topic_id_of(admin: KafkaAdminClient, found: dict[str, Any]) -> str:
    """Returns the id that tells a topic from a re-created one; a stand-in from brokers that keep no topic ids."""
    if found.get("topic_id"):
        return str(found["topic_id"])
    from imgpipeline.stream.embedded import start_id  # noqa: PLC0415 - loads librdkafka, which few brokers make needed

    log_id = start_id(admin.list_topics()) or admin.describe_cluster().get("cluster_id") or "cluster"
    return f"{log_id}.{found['name']}"
