"""What a source of frames is: the values it yields and the two methods it has. Adding a source means writing one class.

    class Webcam:
        name, kind = "webcam-1", SourceKind.LIVE

        def capture(self, stop: Event) -> Iterator[Captured]:
            while not stop.is_set():
                yield CapturedFrame(utc_now(), ClockSource.RECEIVER, data=read_jpeg())

Storing, announcing, accounting and back-pressure are the publisher's (`publisher`), the same for every source.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from threading import Event
from typing import Any, Protocol

import numpy as np

from imgpipeline.contracts.capture import ClockSource


class SourceKind(StrEnum):
    """What a source does when its frames cannot be stored as fast as it yields them."""

    FINITE = "finite"
    """It waits and loses nothing: a folder, a video, a sequence."""
    LIVE = "live"
    """It cannot wait: the oldest waiting frames are dropped, and the drops are accounted for."""


class Settled(StrEnum):
    """What became of a captured frame."""

    ANNOUNCED = "announced"
    """Its image is stored, and all in-sync replicas of Kafka have its announcement."""
    GATED = "gated"
    """It was left out on purpose and not announced."""
    DROPPED = "dropped"
    """It was lost because newer frames were waiting."""
    FAILED = "failed"
    """It could not be encoded, masked or stored."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that is already in a store and is announced without being copied."""

    path: str
    """`s3://bucket/key`, or a key below the store's prefix."""
    size_bytes: int | None = None
    """Its size, if it is known."""
    sha256: str | None = None
    """Lower-case hexadecimal SHA-256 of its bytes, if it is known."""
    width: int | None = None
    """Width of the upright image in pixels, if it is known."""
    height: int | None = None
    """Height of the upright image in pixels, if it is known."""


@dataclass(frozen=True, slots=True, eq=False)
class CapturedFrame:
    """One frame as a source delivers it: encoded bytes where the source has them, otherwise pixels."""

    timestamp: datetime
    """Time of the frame, UTC."""
    clock: ClockSource
    """Which clock `timestamp` is from."""
    data: bytes | None = None
    """The encoded image as received, stored unchanged unless a setting changes it; None if there are only pixels."""
    sha256: str | None = None
    """Lower-case hexadecimal SHA-256 of `data`, if the source has computed it."""
    pixels: np.ndarray | None = None
    """uint8 [height, width, 3], BGR; None if there are encoded bytes."""
    stored: StoredImage | None = None
    """Set, without bytes and pixels, if the image is in a store already."""
    number: int | None = None
    """Number within the source, from 0; with source and time it names the frame."""
    position: int | None = None
    """Its number for image keys only (`{number}` in a template), if it is not named by a number."""
    name: str | None = None
    """The name of its file; None if it has none. Names decide the image's key."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """JSON values to announce with the frame."""
    received: datetime | None = None
    """When it arrived, by this machine's clock, UTC; None: now."""
    has_own_timestamp: bool = True
    """False if the frame is identified by its content instead of its time, as a redelivered MQTT message must be."""
    settle: Callable[[Settled], None] | None = None
    """Called once, in a thread of the publisher, when the fate of the frame is certain."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Frames that a source received and did not yield."""

    reason: str
    """Why, as one word for the accounts, such as `frame_rate` or `decode`."""
    count: int = 1
    """How many frames."""
    kind: Settled = Settled.DROPPED
    """`GATED`: left out on purpose; `DROPPED`: lost; `FAILED`: could not be decoded."""
    at: datetime | None = None
    """Time of the first of them, UTC; None: the time of the frame before."""


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A live source went offline, came back, or its clock jumped."""

    online: bool
    """Whether it delivers frames from now on."""
    reason: str
    """Why, for a person; never a secret."""
    at: datetime
    """When, UTC."""


Captured = CapturedFrame | Lost | StatusChange
"""What a source yields."""


class Source(Protocol):
    """A source of frames."""

    @property
    def name(self) -> str:
        """The name under which its frames are announced, 1 to 1,024 printable characters."""

    @property
    def kind(self) -> SourceKind:
        """Whether it waits or drops frames."""

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields frames in their order until the source ends or `stop` is set.

        A live source reconnects and yields `StatusChange`; it raises only what no retry can repair.

        Raises:
            ConfigurationError: The source cannot be opened as it is configured.
        """
