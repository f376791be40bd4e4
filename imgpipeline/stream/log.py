"""Reads ids and partitions of the topics and the ends of their logs, and stores offsets of the consumer group.

The ids are read from the broker at each call, because the client's fetcher does not notice that a topic was deleted and
re-created. A topic that cannot be read does not prevent reading the others. The group's offsets show progress to other
tools. The ledger decides where a run continues, so a broker that cannot store the offsets only causes a warning.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import CoordinatorNotAvailableError, KafkaError, NoError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from imgpipeline.contracts.records import LogRange, Partition
from imgpipeline.errors import ImgpipelineError, TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin
from imgpipeline.stream.diagnosis import missing_topic
from imgpipeline.stream.kafka_internals import READ_COMMITTED

_log = logging.getLogger(__name__)
_PATIENCE_S = 5.0
_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Topics:
    """The ids and partitions of the topics."""

    ids: Mapping[str, str]
    partitions: Sequence[Partition]
    """The partitions of these topics, in the order of the topics, then by number."""
    unreadable: Mapping[str, ImgpipelineError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Logs:
    """The logs of the topics at one moment."""

    ranges: Sequence[LogRange]
    """The log of each partition that can be read, in the order of the topics, then by number."""
    unreadable: Mapping[str, ImgpipelineError] = field(default_factory=dict)


def read_log(settings: Settings) -> list[LogRange]:
    """Returns the log of every partition that can be read; order and errors as `read_logs`."""
    return list(read_logs(settings).ranges)


def read_logs(settings: Settings) -> Logs:
    """Reads the logs of all partitions of the topics.

    Raises:
        ConfigurationError: None of the topics exists, or a setting is wrong.
        TransientError: The broker does not answer, or the only topic changed during the request.
    """
    with open_admin(settings) as admin:
        return ask_logs(admin, settings)


def ask_logs(admin: KafkaAdminClient, settings: Settings) -> Logs:
    """Reads the logs with an open client; errors as `read_logs`, but errors of kafka-python are not translated."""
    topics = ask_topics(admin, settings)
    asked = [TopicPartition(*partition) for partition in topics.partitions]
    try:
        starts = admin.list_partition_offsets(dict.fromkeys(asked, OffsetSpec.EARLIEST))
        ends = admin.list_partition_offsets(dict.fromkeys(asked, OffsetSpec.LATEST), isolation_level=READ_COMMITTED)
    except UnknownTopicOrPartitionError as error:
        names = ", ".join(topics.ids)
        raise TransientError(f"The topic {names} changed while its offsets were read.") from error
    again = ask_topics(admin, settings)
    changed = {
        topic: TransientError(f"The topic {topic} was re-created while its offsets were read.")
        for topic, topic_id in topics.ids.items()
        if again.ids.get(topic) != topic_id
    }
    unreadable = changed | dict(again.unreadable)
    found = [
        LogRange(at.topic, topics.ids[at.topic], at.partition, starts[at].offset, ends[at].offset)
        for at in asked
        if at.topic not in unreadable
    ]
    if not found and unreadable:
        raise next(iter(unreadable.values()))
    return Logs(found, unreadable)


def ask_topics(admin: KafkaAdminClient, settings: Settings) -> Topics:
    """Reads ids and partitions of the topics with an open client.

    Raises:
        ConfigurationError: None of the topics exists.
        TransientError: The broker cannot describe the topics at the moment.
    """
    ids: dict[str, str] = {}
    partitions: list[Partition] = []
    unreadable: dict[str, ImgpipelineError] = {}
    described = {found["name"]: found for found in admin.describe_topics(list(settings.kafka_topics))}
    for topic in settings.kafka_topics:
        found = described.get(topic) or {"error_code": UnknownTopicOrPartitionError.errno}
        why = _why_unreadable(settings, topic, found)
        if why is not None:
            unreadable[topic] = why
            continue
        ids[topic] = topic_id_of(admin, found)
        partitions += sorted(Partition(topic, part["partition_index"]) for part in found["partitions"])
    if not ids:
        raise next(iter(unreadable.values()))
    return Topics(ids, partitions, unreadable)


def ask_topic(admin: KafkaAdminClient, settings: Settings) -> tuple[str, list[int]]:
    """Returns id and partitions of the first topic, to which our own sources announce; errors as `ask_topics`."""
    topic = settings.kafka_topic
    found = ask_topics(admin, settings.model_copy(update={"kafka_topics": (topic,)}))
    return found.ids[topic], [partition.number for partition in found.partitions]


def topic_id_of(admin: KafkaAdminClient, found: dict[str, Any]) -> str:
    """Returns the id that distinguishes a topic from a re-created one; a substitute if the broker has no topic ids."""
    if found.get("topic_id"):
        return str(found["topic_id"])
    from imgpipeline.stream.embedded import start_id  # noqa: PLC0415 - loads librdkafka, needed for few brokers

    log_id = start_id(admin.list_topics()) or admin.describe_cluster().get("cluster_id") or "cluster"
    return f"{log_id}.{found['name']}"


def _why_unreadable(settings: Settings, topic: str, found: Mapping[str, Any]) -> ImgpipelineError | None:
    code = found["error_code"]
    if code == UnknownTopicOrPartitionError.errno or not (code or found["partitions"]):
        return missing_topic(settings, topic)
    if code:
        return TransientError(f"The broker cannot describe the topic {topic!r} (code {code}).")
    # A request for the offsets of a partition without leader would fail for the other partitions too.
    lost = [part["partition_index"] for part in found["partitions"] if part["leader_id"] < 0]
    if lost and len(settings.kafka_topics) > 1:
        return TransientError(
            f"No broker leads partition {lost[0]} of the topic {topic!r}.",
            next_step="start the broker that has it; the topic is then followed again",
        )
    return None


def commit_group(admin: KafkaAdminClient, settings: Settings, offsets: Mapping[Partition, int]) -> bool:
    """Stores offsets of the configured consumer group; returns whether the broker took all of them."""
    wanted = {TopicPartition(*at): OffsetAndMetadata(offset, "", -1) for at, offset in offsets.items()}
    reach("group told", settings.kafka_group)
    # A new broker has no coordinator of groups until one is asked for.
    attempts = Retrying(
        retry=retry_if_exception_type(CoordinatorNotAvailableError),
        stop=stop_after_delay(_PATIENCE_S),
        wait=wait_fixed(_PAUSE_S),
        reraise=True,
    )
    try:
        answers = attempts(admin.alter_group_offsets, settings.kafka_group, wanted).values()
        failed = {answer.__name__ for answer in answers if answer is not NoError}
    except KafkaError as error:
        failed = {repr(error)}
    if failed:
        why = ", ".join(sorted(failed))
        _log.warning("Could not store the offsets of the group %s (%s).", settings.kafka_group, why)
        return False
    reach("group told done", settings.kafka_group)
    return True
