"""Announces frames on the first topic, as other producers do."""

from contextlib import AbstractContextManager
from typing import Any, Self

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_producer


class Announcer:
    """Sends announcements; a context manager, after which Kafka has all of them."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.kafka_topic
        self._context: AbstractContextManager[Any] = open_producer(settings)

    def __enter__(self) -> Self:
        self._producer = self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.flush()
        finally:
            self._context.__exit__(*error)

    def announce(self, message: FrameMessage) -> None:
        """Announces a frame; returns before it is acknowledged."""
        self._producer.send(self._topic, message.to_value(), key=message.source.encode())

    def flush(self) -> None:
        """Waits until Kafka has all announcements."""
        self._producer.flush()
