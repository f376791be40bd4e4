"""The input of rules (frames, objects, image changes), and their output: events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from imgpipeline.contracts.times import Timestamp

TRACKED = ("track_points", "tracks")
"""The tables that say which detections are the same object."""


@dataclass(frozen=True, slots=True)
class SeenObject:
    """One detection."""

    label: str
    confidence: float
    """0 to 1."""
    box_xywh: tuple[float, float, float, float] | None
    """Left, top, width, height in pixels of the image; may extend beyond it. None in imports without boxes."""
    track_id: str | None = None
    """Id of the tracked object, the same in all slices of a day; None if it was not tracked."""


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """One frame, with or without detections."""

    frame_id: str
    source: str
    timestamp: datetime
    image_path: str
    size: tuple[int, int] = (0, 0)
    """Width and height of the image in pixels; 0 if unknown."""
    objects: tuple[SeenObject, ...] = ()


@dataclass(frozen=True, slots=True)
class FrameChange:
    """The comparison of a frame with the previous frame of its source."""

    frame_id: str
    previous_frame_id: str
    source: str
    timestamp: datetime
    previous_timestamp: datetime
    source_image_path: str
    previous_image_path: str
    outcome: str
    """`compared`, `sizes_differ` or `unreadable`."""
    norm: float | None
    """L2 norm of the difference over all channels of all pixels; None unless the images were compared."""
    reason: str | None
    """Why the images could not be compared, or None."""

    @property
    def pair(self) -> tuple[str, str, str, str]:
        """Identifies the compared frames and their images."""
        return self.frame_id, self.source_image_path, self.previous_frame_id, self.previous_image_path


@dataclass(frozen=True, slots=True)
class Event:
    """An event that a rule found, with its evidence."""

    rule: str
    kind: str
    source: str
    timestamp: Timestamp
    """Time of the frame with which the rule was met, UTC."""
    started_at: Timestamp
    """Time of the first frame in which the condition of the rule held, UTC."""
    ended_at: Timestamp
    """Time of the last frame of the day in which it held, UTC; the only field that changes when frames are added."""
    place: str | None
    """The zone or line, or None."""
    label: str | None
    """Label of the objects, if all have the same, or None."""
    direction: str | None
    """Direction in which the line was crossed, or None."""
    value: float | None
    """The measured value: a count, seconds, or the norm; None if nothing was measured."""
    reason: str
    frame_ids: tuple[str, ...]
    """The frames that show the event; the last one has the time `timestamp`."""
    image_paths: tuple[str, ...]
    track_ids: tuple[str, ...] = ()

    @property
    def event_id(self) -> str:
        """Identifies the event by rule and evidence, so a rebuild finds the same id."""
        evidence = (self.rule, self.source, self.frame_ids, self.track_ids)
        return sha256(repr(evidence).encode()).hexdigest()[:32]


def in_order(frames: Sequence[SeenFrame]) -> list[SeenFrame]:
    """Returns frames by time and id, so the order does not depend on the caller."""
    return sorted(frames, key=lambda frame: (frame.timestamp, frame.frame_id))
