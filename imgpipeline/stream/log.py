"""Reads ids and partitions of the topics, the ends of their logs, and the offsets of the consumer group.

The ids are read from the broker at each call, because the client's fetcher does not notice that a topic was deleted and
re-created. A topic that cannot be read does not prevent reading the others. The group's offsets show progress to other
tools. The ledger decides where a run continues, so a broker that cannot store the offsets only causes a warning.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata

from imgpipeline.contracts.records import LogRange, Partition
from imgpipeline.errors import ImgpipelineError, TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin, open_consumer
from imgpipeline.stream.diagnosis import missing_topic
from imgpipeline.stream.kafka_internals import READ_COMMITTED

_log = logging.getLogger(__name__)
_ANSWER_MS = 5_000


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


class Group:
    """The offsets of the configured consumer group. Used by one thread at a time."""

    def __init__(self, consumer: KafkaConsumer, settings: Settings) -> None:
        """Wraps a consumer of the group; use `open_group`."""
        self._consumer = consumer
        self._settings = settings

    def read(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Returns the group's offsets; partitions without one are left out."""
        offsets: dict[Partition, int] = {}
        for partition in partitions:
            try:
                found = self._consumer.committed(TopicPartition(*partition), timeout_ms=_ANSWER_MS)
            except KafkaError as error:
                _log.info("Could not read the offsets of the group %s (%s).", self._settings.kafka_group, error)
                return offsets
            if found is not None and found >= 0:
                offsets[partition] = found
        return offsets

    def write(self, offsets: Mapping[Partition, int]) -> bool:
        """Commits offsets; returns whether the broker stored them."""
        wanted = {TopicPartition(*p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
        reach("group told", self._settings.kafka_group)
        try:
            self._consumer.commit(wanted, timeout_ms=_ANSWER_MS)
        except KafkaError as error:
            _log.warning("Could not store the offsets of the group %s (%s).", self._settings.kafka_group, error)
            return False
        reach("group told done", self._settings.kafka_group)
        return True


@contextlib.contextmanager
def open_group(settings: Settings) -> Iterator[Group]:
    """Opens the configured group; errors are translated as by `kafka_errors`."""
    with open_consumer(settings, group_id=settings.kafka_group) as consumer:
        yield Group(consumer, settings)


def ask_group(settings: Settings, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Returns the group's offsets in one request; empty if the broker cannot read them.

    Args:
        partitions: The partitions to read, since not every broker supports a request for all of them.

    Raises:
        ConfigurationError: A setting is wrong.
        TransientError: The broker does not answer.
    """
    wanted = [TopicPartition(*partition) for partition in partitions]
    with open_admin(settings) as admin:
        try:
            offsets = admin.list_group_offsets({settings.kafka_group: wanted})[settings.kafka_group]
        except KafkaError as error:
            _log.info("Could not read the offsets of the group %s (%s).", settings.kafka_group, error)
            return {}
        return {Partition(*where): found.offset for where, found in offsets.items() if found.offset >= 0}
