"""The values that following works on: frames with boxes, tracks, and the parameters."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from imgpipeline.settings import Settings

if TYPE_CHECKING:  # the code location reads the parameters and does not need numpy
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class FrameBoxes:
    """One processed frame, with the boxes of one class group that were found in it."""

    frame_id: str
    """Names the frame within its day."""
    time_us: int
    """The frame's own time, microseconds since 1970 UTC."""
    numbers: "npt.NDArray[np.int64]"
    """Shape (n,): `detection_number` of each box, from 0."""
    boxes_xyxy: "npt.NDArray[np.float64]"
    """Shape (n, 4): left, top, right, bottom in pixels of the original image."""
    confidences: "npt.NDArray[np.float64]"
    """Shape (n,): scores in [0, 1]."""
    labels: tuple[str, ...]
    """The n labels."""
    is_weak: "npt.NDArray[np.bool_] | None" = None
    """Shape (n,): whether each box is a weak detection, which begins no track; None if none is."""


class EndedBy(StrEnum):
    """Why a track ends."""

    LOST = "lost"
    """The object was not found any more."""
    GAP = "gap"
    """No frame came for too long."""
    OUTAGE = "outage"
    """The source reported that it started, ended, or went offline or online."""
    FRAME_RATE = "frame_rate"
    """The frame rate changed by a factor of two or more."""
    SLICE = "slice"
    """It was still followed where the slice, with its overlap, or the frames end."""


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
    """Its detections by time, at least two, one a frame at most."""
    frame_rate: float
    """Frames a second of the stretch that it was followed in."""
    ended_by: EndedBy
    """Why it ends."""
    stitched_after: int | None = None
    """Number of the track of the same object that was lost shortly before; None if there is none."""


@dataclass(frozen=True, slots=True)
class TrackingParameters:
    """All settings that change tracks."""

    confidence: float
    """Boxes below this confidence continue tracks but begin none, in [0, 1]."""
    lost_s: float
    """How long an object may be missed before its track ends, in seconds."""
    iou: float
    """Least overlap (IoU) of a box with where its track is expected, in [0, 1]."""
    gap_s: float
    """A longer time without a frame ends all tracks, in seconds; at low frame rates three frames."""
    stitch_s: float
    """Two tracks at most this far apart may be one object, in seconds."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Returns the parameters that the settings name."""
        return cls(
            confidence=settings.track_confidence,
            lost_s=settings.track_lost_s,
            iou=settings.track_iou,
            gap_s=settings.track_gap_s,
            stitch_s=settings.track_stitch_s,
        )

    def recipe(self, library: str) -> str:
        """Returns a hash of the parameters and the library's version, 16 hexadecimal digits."""
        return sha256(repr((FORMAT, library, sorted(asdict(self).items()))).encode()).hexdigest()[:16]


FORMAT = 1
"""Raised when following gives other tracks for the same detections and parameters."""
