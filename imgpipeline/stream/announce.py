"""Announces frames by writing records of the message contract.

A flushed announcement is in Kafka, frames of one source keep their order (one key, hence one partition), and memory
stays flat while the broker is slow. The source stores the image before it announces it.
"""

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Self

from kafka import KafkaProducer

from imgpipeline.contracts.messages import SESSION, FrameMessage, MessageFormat, classic_value
from imgpipeline.contracts.records import REPLAY_OF
from imgpipeline.contracts.times import find_timezone
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import kafka_errors, open_admin, open_producer
from imgpipeline.stream.log import ask_topic

_MOST_WAITING = 1_000
DELIVERY_TIMEOUT_MS = 30_000
_BLOCK_MS = 10_000


class Announcer:
    """Announces frames on one topic; a context manager, used by one thread at a time.

    Guarantees:
        After `flush`, or after the context ended without an error, every announced frame was acknowledged by all
        replicas in sync. At most 1,000 announcements wait for that at a time; then `announce` waits too.
    """

    def __init__(
        self, settings: Settings, *, topic: str | None = None, message_format: MessageFormat = MessageFormat.NATIVE
    ) -> None:
        """Prepares an announcer; the context connects. `acknowledged` counts what Kafka has confirmed.

        Args:
            settings: Name the broker.
            topic: Where to announce; None: the first topic of the settings.
            message_format: How announcements are written.
        """
        self._settings = settings.model_copy(update={"kafka_topic": topic or settings.kafka_topic})
        self._format = message_format
        self._context = contextlib.ExitStack()
        self._producer: KafkaProducer | None = None
        self._waiting: deque[Any] = deque()
        self.acknowledged = 0

    def __enter__(self) -> Self:
        """Connects.

        Raises:
            ConfigurationError: There is no such topic, or a setting keeps the broker from answering.
            TransientError: The broker does not answer.
        """
        with open_admin(self._settings) as admin:
            ask_topic(admin, self._settings)
        options = {
            "delivery_timeout_ms": DELIVERY_TIMEOUT_MS,
            "request_timeout_ms": DELIVERY_TIMEOUT_MS // 3,
            "max_block_ms": _BLOCK_MS,
            "max_request_size": self._settings.max_message_bytes,
        }
        self._producer = self._context.enter_context(open_producer(self._settings, **options))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self._context.close()  # delivers what is on its way, also after Ctrl-C
            self.acknowledged += sum(future.succeeded() for future in self._waiting)
            self._waiting.clear()

    def announce(self, message: FrameMessage, *, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Announces one frame; returns before it is acknowledged.

        Args:
            message: The frame; its image is stored already.
            headers: Of the record, in addition to `replay_of`, which is in the message.

        Raises:
            ConfigurationError: A setting keeps the broker from taking it.
            TransientError: The broker did not take this or an earlier one in time.
        """
        sent = [*headers, *([(REPLAY_OF, message.replay_of.encode())] if message.replay_of else [])]
        if self._format is MessageFormat.CLASSIC:
            zone = find_timezone(self._settings.message_timezone)
            value = classic_value(message, store_url=self._settings.store_url, zone=zone)
            sent += [(SESSION, str(message.attributes[SESSION]).encode())] if SESSION in message.attributes else []
        else:
            value = message.to_value()
        self.announce_record(value, key=message.source.encode(), headers=sent)

    def announce_record(self, value: bytes, *, key: bytes | None, headers: Sequence[tuple[str, bytes]]) -> None:
        """Announces with a record that was made elsewhere; otherwise as `announce`."""
        if self._producer is None:
            raise RuntimeError("an announcer announces inside its context only")
        if len(self._waiting) >= _MOST_WAITING:
            self._await_oldest()
        with kafka_errors(self._settings):
            self._waiting.append(self._producer.send(self._settings.kafka_topic, value, key=key, headers=list(headers)))
        while self._waiting and self._waiting[0].is_done:
            self._await_oldest()

    def flush(self) -> None:
        """Waits until everything that was announced is acknowledged; errors as `announce`."""
        while self._waiting:
            self._await_oldest()

    def _await_oldest(self) -> None:
        with kafka_errors(self._settings):
            self._waiting.popleft().get(DELIVERY_TIMEOUT_MS / 1000 + 5)
        self.acknowledged += 1


def create_topic(
    settings: Settings,
    *,
    partitions: int,
    replication_factor: int | None = None,
    config: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Makes the topic of the settings.

    Args:
        settings: Name the topic and the broker.
        partitions: How many, at least 1; frames of one source share one.
        replication_factor: None: the broker's own default.
        config: Settings of the topic that differ from the broker's.

    Returns:
        True if it was made, False if it was there already (and stays as it is).

    Raises:
        ConfigurationError: A setting keeps the broker from answering, or it refuses such a topic.
        TransientError: The broker does not answer.
    """
    wanted = {"num_partitions": partitions, "replication_factor": replication_factor or -1, "configs": dict(config)}
    with open_admin(settings) as admin:
        if settings.kafka_topic in admin.list_topics():
            return False
        admin.create_topics({settings.kafka_topic: wanted}, wait_for_metadata=True)
    return True
