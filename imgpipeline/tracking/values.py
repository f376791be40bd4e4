"""The values that tracking works on: slices, class groups, frames with boxes, tracks, and parameters."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings

if TYPE_CHECKING:  # the code location reads the parameters without loading NumPy
    import numpy as np
    import numpy.typing as npt


FORMAT = 2
"""Part of the recipe; raised when the same detections and parameters give different tracks."""
SLICE = timedelta(minutes=10)
"""Tracking works on slices of ten minutes; a track belongs to the slice of its points."""
OVERLAP = timedelta(minutes=1)
"""Each slice is followed this far into the next one; tracks of both that share detections are joined."""
FASTEST = 240.0
"""Sources with more frames per second than this have no tracks: their rows are not images."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FrameBoxes:
    """One processed frame with its boxes of one class group."""

    frame_id: str
    time_us: int
    """The frame's own time, microseconds since 1970 UTC."""
    numbers: "npt.NDArray[np.int64]"
    """Shape (n,): `detection_number` of each box, from 0."""
    boxes_xyxy: "npt.NDArray[np.float64]"
    """Shape (n, 4): left, top, right, bottom in pixels of the original image."""
    confidences: "npt.NDArray[np.float64]"
    """Shape (n,): scores in [0, 1]."""
    is_weak: "npt.NDArray[np.bool_] | None" = None
    """Shape (n,): whether each box is a weak detection, which never starts a track; None if no box is weak."""


class EndedBy(StrEnum):
    """Why a track ends."""

    LOST = "lost"
    """The object was no longer detected."""
    GAP = "gap"
    """No frame arrived for too long."""
    OUTAGE = "outage"
    """The source reported that it started, ended, or went offline or online."""
    FRAME_RATE = "frame_rate"
    """The frame rate changed by a factor of two or more."""
    SLICE = "slice"
    """The object was still visible at the end of the slice and its overlap, or in the last frame."""


@dataclass(frozen=True, slots=True)
class TrackPoint:
    """One detection of a track."""

    frame: int
    """Index of the frame in the slice, from 0."""
    detection: int
    """Index of the box within that frame, from 0."""


@dataclass(frozen=True, slots=True)
class SliceTrack:
    """One object followed within one slice."""

    number: int
    """Number within source, class group and slice, from 1, in the order of the first points."""
    points: tuple[TrackPoint, ...]
    """Its detections by time: at least two, at most one per frame."""
    frame_rate: float
    """Frames per second of its stretch."""
    ended_by: EndedBy
    stitched_after: int | None = None
    """Number of the lost track of the same object that this one continues, or None."""


@dataclass(frozen=True, slots=True)
class TrackingParameters:
    """All settings that change tracks."""

    tracker: str
    """`bytetrack`, `ocsort` or `cbiou`."""
    confidence: float
    """Boxes below this confidence continue tracks but do not start any, in [0, 1]."""
    lost_s: float
    """An object that is not detected for this long ends its track, in seconds."""
    iou: float
    """Minimum overlap (IoU) of a box and the predicted position of its track, in [0, 1]."""
    gap_s: float
    """A longer time without a frame ends all tracks, in seconds; at low frame rates, three frame intervals."""
    stitch_s: float
    """Longest gap between two tracks of one object, in seconds."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Returns the parameters in the settings."""
        return cls(
            tracker=settings.tracker,
            confidence=settings.track_confidence,
            lost_s=settings.track_lost_s,
            iou=settings.track_iou,
            gap_s=settings.track_gap_s,
            stitch_s=settings.track_stitch_s,
        )

    def recipe(self, library: str) -> str:
        """Returns a hash of the parameters and the library's version, 16 hexadecimal digits."""
        return sha256(repr((FORMAT, library, sorted(asdict(self).items()))).encode()).hexdigest()[:16]


def slice_start(at: datetime) -> datetime:
    """Returns the start of the slice that contains a time."""
    return at - (at - _EPOCH) % SLICE


def track_id(source: str, class_group: str, start: datetime, number: int | str) -> str:
    """Returns a track's id: `gate/car/20260109T1210/3`."""
    return f"{source}/{class_group}/{start:%Y%m%dT%H%M}/{number}"


def parse_groups(text: str) -> Mapping[str, str]:
    """Reads groups of labels that one tracker follows together, such as `person; car,van,truck,bus`.

    Returns:
        The first label of the group of each label, which names the group. Any other label is a group of one.

    Raises:
        ConfigurationError: A label is in two groups.
    """
    groups = [[label.strip() for label in group.split(",") if label.strip()] for group in text.split(";")]
    first_labels: dict[str, str] = {}
    for labels in groups:
        for label in labels:
            if first_labels.setdefault(label, labels[0]) != labels[0]:
                raise ConfigurationError(
                    f"The label {label!r} is in two groups of {text!r}; expected each label once.",
                    next_step="change IMGPIPELINE_TRACK_GROUPS",
                )
    return first_labels
