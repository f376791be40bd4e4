"""Sends batches of records, each batch as a whole, and fences off an older sender of the same source.

With a fence, a batch is one Kafka transaction under the `transactional.id` of that fence: consumers with
`read_committed` see all of it or nothing, and only the sender that opened the fence last can still send.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka.errors import InvalidProducerEpochError, KafkaError, ProducerFencedError

from imgpipeline.errors import PermanentError
from imgpipeline.faultpoints import reach
from imgpipeline.settings import Settings
from imgpipeline.stream.announce import DELIVERY_TIMEOUT_MS
from imgpipeline.stream.connection import kafka_errors, open_admin, open_sender
from imgpipeline.stream.log import ask_topic

_BLOCK_MS = 10_000


class FencedError(PermanentError):
    """Another process sends for this source now."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record to send."""

    topic: str
    """Kafka topic."""
    key: bytes
    """Decides the partition."""
    value: bytes
    """The record's value."""
    headers: tuple[tuple[str, bytes], ...] = ()
    """The record's headers."""
    timestamp_ms: int | None = None
    """The record's timestamp in Unix milliseconds; None: now."""


class BatchSender:
    """Sends batches; used by one thread at a time. After an error the next call connects again."""

    def __init__(
        self, settings: Settings, *, fence: str | None = None, topics: Sequence[str] = (), owner: str = "live source"
    ) -> None:
        """Prepares a sender; the first batch connects.

        Args:
            settings: Name the broker.
            fence: What only one sender at a time may send for; None: any number of senders.
            topics: The topics to send to, the first one being part of the fence. Default: those of our own sources.
            owner: What the fence stands for, as an error names it.
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
        """Connects, and fences off older senders, before there is anything to send; errors as `send`."""
        self.send(())

    def send(self, records: Sequence[Record]) -> None:
        """Sends a batch; returns when all in-sync replicas have all of it.

        After a `TransientError` it is not known whether the batch arrived. The same batch can be sent again: a batch
        under a fence then counts once, another one at least once.

        Raises:
            FencedError: Another sender has opened the same fence.
            ConfigurationError: A setting keeps the broker from taking it.
            TransientError: The broker does not answer in time.
        """
        try:
            with kafka_errors(self._settings):
                self._send(records)
        except BaseException as error:
            self.close()
            if _is_fenced(error.__cause__):
                raise FencedError(
                    f"Another process has taken over {self._fence}.",
                    next_step=f"stop one of the two: each {self._owner} has one sender",
                ) from error
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
                ask_topic(admin, self._settings.model_copy(update={"kafka_topic": topic}))
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
    """Tells whether a newer sender is why this one failed: kafka-python raises that as it is, or within another."""
    return isinstance(error, ProducerFencedError | InvalidProducerEpochError) or (
        isinstance(error, KafkaError) and any(isinstance(one, BaseException) and _is_fenced(one) for one in error.args)
    )
