"""The plain loop that every source is compared with: the same reader, the same PUT and the same send, in one thread."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Protocol

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import day_of
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.protocol import Captured, CapturedFrame
from imgpipeline.sources.storing import size_of
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.send import Record
from imgpipeline.vision.annotate import encode_jpeg

_ANSWER_S = 60.0


class _Sent(Protocol):
    """The answer of kafka-python to one record."""

    def get(self, timeout: float) -> object:
        """Waits for the acknowledgement."""

    def add_callback(self, call: Callable[..., object]) -> object:
        """Calls when it is acknowledged."""


def plain_record(settings: Settings, store: ObjectStore, source: str, frame: CapturedFrame) -> Record:
    """Stores a frame and returns the record that announces it, with the fields that the publisher announces."""
    if frame.stored:
        key, size_bytes, digest, width, height = frame.stored.path, frame.stored.size_bytes, None, None, None
    else:
        data = frame.data if frame.pixels is None or frame.data is not None else encode_jpeg(frame.pixels)
        digest, size_bytes = sha256(data or b"").hexdigest(), len(data or b"")
        width, height = size_of(data or b"")
        name = frame.name or f"{frame.timestamp:%H%M%S%f}-{digest[:16]}.jpg"
        key = f"images/{source}/{day_of(frame.timestamp)}/{name}"
        store.create(key, data or b"")
    message = FrameMessage(
        source, key, frame.timestamp, frame_number=frame.number, width=width, height=height, size_bytes=size_bytes,
        sha256=digest, attributes=frame.attributes, clock_source=frame.clock,
    )  # fmt: skip
    return Record(settings.kafka_topic, source.encode(), message.to_value(with_time=frame.has_own_timestamp))


class PlainPublisher:
    """Stores a frame, and hands its announcement to a producer that batches and sends in its own thread."""

    def __init__(self, settings: Settings, producer: Any) -> None:
        """Takes where to publish, and a connected kafka-python producer."""
        self._settings = settings
        self._store = open_store(settings)
        self._producer = producer
        self._producer.partitions_for(settings.kafka_topic)

    def publish(self, source: str, frame: CapturedFrame) -> _Sent:
        """Stores and announces a frame; returns what tells when it is acknowledged."""
        record = plain_record(self._settings, self._store, source, frame)
        sent: _Sent = self._producer.send(record.topic, record.value, key=record.key)
        return sent

    def publish_all(self, source: str, captured: Iterable[Captured]) -> int:
        """Publishes the frames of a source, and returns how many were acknowledged."""
        sent = deque(self.publish(source, frame) for frame in captured if isinstance(frame, CapturedFrame))
        for one in sent:
            one.get(_ANSWER_S)
        return len(sent)


@contextmanager
def plain_publisher(settings: Settings) -> Iterator[PlainPublisher]:
    """Connects (`acks=all`, idempotent), and disconnects again."""
    with open_producer(settings) as producer:
        yield PlainPublisher(settings, producer)
