"""What rules are evaluated on, and what they find."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256


@dataclass(frozen=True, slots=True)
class SeenObject:
    """One detection."""

    label: str
    """Its class."""
    confidence: float
    """0 to 1."""
    box_xywh: tuple[float, float, float, float] | None
    """Left, top, width, height in pixels of the image; may reach beyond it. None in imports without boxes."""
    track_id: str | None = None
    """The object that it is part of; None if it was not tracked. Objects keep it over all slices of a day."""


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """One processed frame, also without detections."""

    frame_id: str
    """Names it within its day."""
    source: str
    """The camera, video or folder."""
    timestamp: datetime
    """The frame's own time, UTC."""
    image_path: str
    """Where the image is stored."""
    size: tuple[int, int]
    """Width and height of the image in pixels."""
    objects: tuple[SeenObject, ...] = ()
    """What was found in it."""


@dataclass(frozen=True, slots=True)
class FrameChange:
    """One frame compared with the one before of the same source."""

    frame_id: str
    """The later frame."""
    previous_frame_id: str
    """The frame before."""
    source: str
    """The source of both."""
    timestamp: datetime
    """Time of the later frame, UTC."""
    previous_timestamp: datetime
    """Time of the frame before, UTC."""
    image_path: str
    """Where the later image is stored."""
    previous_image_path: str
    """Where the image before is stored."""
    outcome: str
    """`compared`, `sizes_differ` or `unreadable`."""
    norm: float | None
    """L2 norm of the difference over all values of all pixels; None unless the images were compared."""
    reason: str | None
    """Why they could not be compared, or None."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a rule found, with its evidence."""

    rule: str
    """Name of the rule."""
    kind: str
    """Kind of the rule."""
    source: str
    """Where it happened."""
    timestamp: datetime
    """Time of the frame with which the rule was met, UTC."""
    started_at: datetime
    """When what met the rule began, UTC."""
    ended_at: datetime
    """Last frame of the day for which it held, UTC. It grows while the day does; all else stays."""
    place: str | None
    """The zone or line, or None."""
    label: str | None
    """Label of the one object, or None."""
    direction: str | None
    """In which direction the line was crossed, or None."""
    value: float | None
    """What was measured: the count, seconds, or the norm; None if nothing could be."""
    reason: str
    """What happened, for a person."""
    frame_ids: tuple[str, ...]
    """The frames that show it; the last one is that of `timestamp`."""
    image_paths: tuple[str, ...]
    """Their images, in the same order."""
    track_ids: tuple[str, ...] = ()
    """The objects that took part, where they were tracked."""

    @property
    def event_id(self) -> str:
        """Identifies the event by rule and evidence, so a rebuild finds the same id."""
        evidence = (self.rule, self.source, self.frame_ids, self.track_ids)
        return sha256(repr(evidence).encode()).hexdigest()[:32]


def in_order(frames: Sequence[SeenFrame]) -> list[SeenFrame]:
    """Returns frames by time; those of one time by their names, so that the order never depends on the caller."""
    return sorted(frames, key=lambda frame: (frame.timestamp, frame.frame_id))
