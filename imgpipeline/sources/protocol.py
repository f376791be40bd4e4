"""The protocol of a source, and the values that a source yields. To add a source, write one class.

    class Webcam:
        name, kind = "webcam-1", SourceKind.LIVE

        def capture(self, stop: Event) -> Iterator[Captured]:
            while not stop.is_set():
                yield CapturedFrame(utc_now(), ClockSource.RECEIVER, data=read_jpeg())

A session (`session`) stores, announces and accounts for the frames of a source, and applies back-pressure.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from threading import Event
from typing import Any, Protocol

import numpy as np

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.message_fields import MAX_TEXT
from imgpipeline.errors import UsageError


class SourceKind(StrEnum):
    """What a source does when its frames cannot be stored as fast as it yields them."""

    FINITE = "finite"
    """It waits and loses nothing: a folder, a video, a sequence."""
    LIVE = "live"
    """It cannot wait: the oldest waiting frames are dropped and counted."""


class Settled(StrEnum):
    """How a captured frame was settled."""

    ANNOUNCED = "announced"
    """Its image is stored, and all in-sync replicas of Kafka have its announcement."""
    GATED = "gated"
    """It was left out on purpose and not announced."""
    DROPPED = "dropped"
    """It was lost: newer frames were waiting, or the session ended before store and Kafka were back."""
    FAILED = "failed"
    """It could not be encoded, masked or stored."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that is already in a store and is announced without being copied."""

    path: str
    """`s3://bucket/key`, or a key below the store's prefix."""
    size_bytes: int | None = None
    """Its size; None: unknown."""
    sha256: str | None = None
    """Lower-case hexadecimal SHA-256 of its bytes; None: unknown."""
    width: int | None = None
    """Width of the upright image in pixels; None: unknown."""
    height: int | None = None
    """Height of the upright image in pixels; None: unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class CapturedFrame:
    """One frame of a source: encoded bytes where the source has them, otherwise pixels."""

    timestamp: datetime
    """Time of the frame, UTC."""
    clock: ClockSource
    data: bytes | None = None
    """The encoded image as received, stored unchanged unless an option changes it; None if there are only pixels."""
    sha256: str | None = None
    """Lower-case hexadecimal SHA-256 of `data`, if the source has computed it."""
    pixels: np.ndarray | None = None
    """uint8 [height, width, 3], BGR; None if there are encoded bytes."""
    stored: StoredImage | None = None
    """The stored image, if it is in a store already; then there are no bytes and no pixels."""
    number: int | None = None
    """Number within the source, from 0. Source, time and number identify a frame."""
    position: int | None = None
    """Number for image keys only (`{number}` in a template), for a frame that `number` does not identify."""
    name: str | None = None
    """Name of its file, which decides the image's key; None if it has none."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """JSON values to announce with the frame."""
    received: datetime | None = None
    """When it arrived, by this machine's clock, UTC; None: now."""
    has_own_timestamp: bool = True
    """False if its content identifies the frame instead of its time, as for MQTT messages that can be redelivered."""
    settle: Callable[[Settled], None] | None = None
    """Called once, in a thread of the session, when the frame is settled."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Frames that a source received and did not yield."""

    reason: str
    """One word for the accounts, such as `frame_rate` or `decode`."""
    count: int = 1
    kind: Settled = Settled.DROPPED
    """`GATED`: left out on purpose; `DROPPED`: lost; `FAILED`: could not be decoded."""
    at: datetime | None = None
    """Time of the first of them, UTC; None: the time of the previous frame."""


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A live source went offline, came back, or its clock jumped."""

    online: bool
    reason: str
    """Why, for a person; never contains a secret."""
    at: datetime


Captured = CapturedFrame | Lost | StatusChange


def checked_source(name: str) -> str:
    """Returns the name of a source.

    Raises:
        UsageError: The name is empty, too long, or not printable.
    """
    if not name.strip() or len(name) > MAX_TEXT or not name.isprintable():
        raise UsageError(f"{name!r} is not a valid source name.", next_step=f"use 1 to {MAX_TEXT} printable characters")
    return name


class Source(Protocol):
    """A source of frames."""

    @property
    def name(self) -> str:
        """The name under which its frames are announced (`checked_source`)."""

    @property
    def kind(self) -> SourceKind:
        """Whether it waits or drops frames."""

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields frames in order until the source ends or `stop` is set.

        A live source reconnects and yields `StatusChange`. It raises only errors that no retry can repair.

        Raises:
            ConfigurationError: The source cannot be opened with its configuration.
        """
