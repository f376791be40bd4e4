"""Sends batches of records to Kafka.

A batch sender with a fence sends each batch as one Kafka transaction under the fence's `transactional.id`. Consumers
with `read_committed` see all of the batch or nothing, and only the sender that opened the fence last can still send.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kafka import KafkaProducer
from kafka.errors import InvalidProducerEpochError, KafkaError, ProducerFencedError

from imgpipeline.errors import PermanentError
from imgpipeline.faultpoints import reach
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import kafka_errors, open_admin, open_sender
from imgpipeline.stream.log import ask_topic

DELIVERY_TIMEOUT_MS = 30_000
_BLOCK_MS = 10_000


def create_topic(
    settings: Settings,
    *,
    partitions: int,
    replication_factor: int | None = None,
    config: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Creates the topic of the settings.

    Args:
        partitions: Number of partitions, at least 1; the frames of one source share a partition.
        replication_factor: None: the broker's default.

    Returns:
        True if the topic was created, False if it existed (and is unchanged).

    Raises:
        ConfigurationError: A setting is wrong, or the broker refuses the topic.
        TransientError: The broker does not answer.
    """
    wanted = {"num_partitions": partitions, "replication_factor": replication_factor or -1, "configs": dict(config)}
    with open_admin(settings) as admin:
        if settings.kafka_topic in admin.list_topics():
            return False
        admin.create_topics({settings.kafka_topic: wanted}, wait_for_metadata=True)
    return True


class FencedError(PermanentError):
    """Another process has opened the same fence."""

    ends: Mapping[tuple[str, int], int] = MappingProxyType({})
    """By topic and partition: the offset after the last record of the sender that was fenced off."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record to send."""

    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int | None = None
    """The record's timestamp in Unix milliseconds; None: now."""


class BatchSender:
    """Sends batches; used by one thread at a time. After an error, the next call reconnects."""

    def __init__(
        self, settings: Settings, *, fence: str | None = None, topics: Sequence[str] = (), owner: str = "live source"
    ) -> None:
        """Prepares a sender; the first batch connects.

        Args:
            fence: Name under which only one sender at a time may send; None: any number of senders.
            topics: The topics to send to. The first one is part of the fence. Default: the topics of our own sources.
            owner: What the fence stands for, for error messages.
        """
        self._settings = settings
        self._topics = tuple(topics) or tuple(dict.fromkeys((settings.kafka_topic, settings.notices_topic)))
        self._owner = owner
        self._fence = fence
        self._context = contextlib.ExitStack()
        self._producer: KafkaProducer | None = None
        self.ends: dict[tuple[str, int], int] = {}
        """By topic and partition: the offset after the last record of this sender."""

    def open(self) -> None:
        """Connects and fences off older senders without sending anything; raises the same errors as `send`."""
        self.send(())

    def send(self, records: Sequence[Record]) -> None:
        """Sends a batch; returns when all in-sync replicas have acknowledged it.

        After a `TransientError` it is unknown whether the batch arrived. It can be sent again: with a fence it then
        arrives exactly once, otherwise at least once.

        Raises:
            FencedError: Another sender has opened the same fence.
            ConfigurationError: A setting is wrong.
            TransientError: The broker does not answer in time.
        """
        try:
            with kafka_errors(self._settings):
                self._send(records)
        except BaseException as error:
            self.close()
            if _is_fenced(error.__cause__):
                fenced = FencedError(
                    f"Another process has taken over {self._fence}.",
                    next_step=f"stop one of the two: each {self._owner} can have only one sender",
                )
                fenced.ends = self.ends
                raise fenced from error
            raise

    def close(self) -> None:
        """Disconnects."""
        self._producer = None
        with contextlib.suppress(KafkaError):
            self._context.close()

    def _send(self, records: Sequence[Record]) -> None:
        producer = self._producer or self._open()
        if not records:
            return
        if self._fence:
            producer.begin_transaction()
        futures = []
        for record in records:
            headers, stamp = list(record.headers), record.timestamp_ms
            futures.append(
                producer.send(record.topic, record.value, key=record.key, headers=headers, timestamp_ms=stamp)
            )
        for future in futures:
            sent = future.get(DELIVERY_TIMEOUT_MS / 1000)
            at = (sent.topic, sent.partition)
            self.ends[at] = max(self.ends.get(at, 0), sent.offset + 1)
        if self._fence:
            reach("batch sent", self._fence)
            producer.commit_transaction()
            reach("batch committed", self._fence)

    def _open(self) -> KafkaProducer:
        with open_admin(self._settings) as admin:
            for topic in self._topics:
                ask_topic(admin, self._settings.model_copy(update={"kafka_topics": (topic,)}))
        options: dict[str, Any] = {
            "delivery_timeout_ms": DELIVERY_TIMEOUT_MS,
            "request_timeout_ms": DELIVERY_TIMEOUT_MS // 3,
            "max_block_ms": _BLOCK_MS,
            "max_request_size": self._settings.max_message_bytes,
        }
        if self._fence:
            options |= {"transactional_id": f"imgpipeline/{self._topics[0]}/{self._fence}"}
        producer = self._context.enter_context(open_sender(self._settings, **options))
        if self._fence:
            producer.init_transactions()
        self._producer = producer
        return producer


def _is_fenced(error: BaseException | None) -> bool:
    """Returns whether an error of kafka-python is caused by a newer sender, directly or inside another error."""
    return isinstance(error, ProducerFencedError | InvalidProducerEpochError) or (
        isinstance(error, KafkaError) and any(isinstance(one, BaseException) and _is_fenced(one) for one in error.args)
    )
