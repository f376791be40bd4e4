"""A queue of frames that wait to be stored or announced, with limits on their number and bytes."""

import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.sources.protocol import CapturedFrame


@dataclass(slots=True, eq=False)
class QueuedFrame:
    """A frame on its way from `offer` to Kafka."""

    frame: CapturedFrame
    """What the source yielded."""
    number: int
    """Its number in the accounts."""
    received: datetime
    """When it arrived, by this machine's clock, UTC."""
    size_bytes: int
    """Memory that its image takes."""
    before: threading.Event | None = None
    """Set when the previous frame is prepared."""
    prepared: threading.Event = field(default_factory=threading.Event)
    """Set when this frame is prepared or has failed."""
    stored: Future[FrameMessage] = field(default_factory=Future)
    """Its announcement, once the image is stored."""


class FrameQueue:
    """Frames in order. It is not thread-safe; the publisher's lock protects it."""

    def __init__(self, most_frames: int, most_bytes: int) -> None:
        """Sets the limits. An empty queue takes one frame of any size."""
        self._most_frames = most_frames
        self._most_bytes = most_bytes
        self._frames: deque[QueuedFrame] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> QueuedFrame:
        return self._frames[index]

    @property
    def has_stored(self) -> bool:
        """Whether the first frame is stored or has failed."""
        return bool(self._frames) and self._frames[0].stored.done()

    def has_room(self, size_bytes: int) -> bool:
        """Returns whether a frame of this size fits."""
        fits = len(self._frames) < self._most_frames and self._bytes + size_bytes <= self._most_bytes
        return fits or not self._frames

    def append(self, frame: QueuedFrame) -> None:
        """Adds a frame at the end."""
        self._frames.append(frame)
        self._bytes += frame.size_bytes

    def pop(self) -> QueuedFrame:
        """Removes the first frame and returns it."""
        frame = self._frames.popleft()
        self._bytes -= frame.size_bytes
        return frame

    def pop_stored(self, most: int) -> list[QueuedFrame]:
        """Removes and returns up to `most` frames at the front that are stored or have failed."""
        stored: list[QueuedFrame] = []
        while self.has_stored and len(stored) < most:
            stored.append(self.pop())
        return stored

    def clear(self) -> Iterable[QueuedFrame]:
        """Removes all frames and returns them."""
        frames, self._frames, self._bytes = self._frames, deque(), 0
        return frames
