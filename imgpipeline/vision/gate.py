"""Measures image quality, and leaves out frames that are dark, blurred, unchanged, or at the wrong time of day.

The same gate works at a source, before an image is stored, and in a detection run, for frames of other producers.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from threading import Lock

import cv2
import numpy as np

from imgpipeline.contracts.capture import Gated
from imgpipeline.contracts.times import Hours
from imgpipeline.vision.decode import DecodedImage, Pixels, measured_reduction

_THUMBNAIL = (64, 36)
_MOST_SOURCES = 10_000


@dataclass(frozen=True, slots=True)
class Quality:
    """Brightness and sharpness of one picture."""

    brightness: float
    """Mean luma (ITU-R BT.601), 0 to 255."""
    sharpness: float
    """Variance of the Laplacian of the luma, >= 0, on the picture halved until no side is longer than 640 pixels."""


def measure_quality(picture: Pixels | DecodedImage) -> Quality:
    """Measures brightness and sharpness, in about a millisecond for 1280x720. The same picture gives the same figures.

    Sharpness has the same scale at every camera resolution, because the picture is first halved until no side is longer
    than 640 pixels. If the JPEG decoder did that (`decode_image` with `reduced_for`), brightness differs by less than
    0.3 and sharpness by less than 2 %.

    Args:
        picture: uint8 [height, width, 3], BGR; or a decoded image, which may be reduced.
    """
    image = DecodedImage.of(picture)
    factor = measured_reduction(image.width, image.height) // image.reduction
    luma = cv2.cvtColor(_reduce(image.pixels, factor), cv2.COLOR_BGR2GRAY)
    edges = cv2.Laplacian(luma, cv2.CV_16S)
    # Sums of integers are exact, and several times faster than cv2.meanStdDev.
    squares, mean = cv2.norm(edges, cv2.NORM_L2SQR) / edges.size, cv2.sumElems(edges)[0] / edges.size
    return Quality(cv2.mean(luma)[0], squares - mean**2)


def _reduce(pixels: Pixels, factor: int) -> Pixels:
    """Averages squares of pixels; incomplete ones at the right and bottom are left out."""
    if factor <= 1:
        return pixels
    height, width = pixels.shape[:2]
    size = (max(1, width // factor), max(1, height // factor))
    whole = pixels[: size[1] * factor, : size[0] * factor]
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)


class GateReason(StrEnum):
    """Why a frame was left out."""

    TIME_OF_DAY = "time_of_day"
    """Outside the hours of the gate."""
    DARK = "dark"
    """Brightness below the limit."""
    BLURRED = "blurred"
    """Sharpness below the limit."""
    UNCHANGED = "unchanged"
    """Too similar to the last frame of the source that was kept."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Which frames are left out; a limit that is None leaves nothing out."""

    min_brightness: float | None = None
    """Minimum brightness (`Quality`), 0 to 255."""
    min_sharpness: float | None = None
    """Minimum sharpness (`Quality`)."""
    min_change: float | None = None
    """Minimum mean difference of luma, 0 to 255, from the last kept frame of the source; both at 64x36 pixels."""
    hours: Hours | None = None
    """Frames outside these hours are left out."""

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        limits = (self.min_brightness, self.min_sharpness, self.min_change, self.hours)
        return any(limit is not None for limit in limits)


class GateKeeper:
    """Decides frame by frame, and remembers the last kept frame of each source. Thread-safe."""

    def __init__(self, gate: Gate) -> None:
        """Starts without remembered frames, so the first frame of each source counts as changed."""
        self.gate = gate
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def decide_by_time(self, time: datetime) -> Gated | None:
        """Returns why a frame with this time is left out, before it is decoded; None if it is not."""
        hours = self.gate.hours
        return None if hours is None or hours.contain(time) else Gated(GateReason.TIME_OF_DAY)

    def decide(self, source: str, image: DecodedImage, quality: Quality) -> Gated | None:
        """Returns why a decoded frame is left out; None if it is kept. The next frame is compared with the kept one."""
        gate = self.gate
        measured = {"brightness": round(quality.brightness, 3), "sharpness": round(quality.sharpness, 3)}
        if gate.min_brightness is not None and quality.brightness < gate.min_brightness:
            return Gated(GateReason.DARK, measured)
        if gate.min_sharpness is not None and quality.sharpness < gate.min_sharpness:
            return Gated(GateReason.BLURRED, measured)
        if gate.min_change is None:
            return None
        thumbnail = _thumbnail(image)
        with self._lock:
            before = self._kept.get(source)
            change = None if before is None else float(np.abs(thumbnail - before).mean())
            if change is not None and change < gate.min_change:
                return Gated(GateReason.UNCHANGED, {**measured, "change": round(change, 3)})
            self._kept[source] = thumbnail
            self._kept.move_to_end(source)
            if len(self._kept) > _MOST_SOURCES:
                self._kept.popitem(last=False)
        return None


def _thumbnail(image: DecodedImage) -> np.ndarray:
    small = cv2.resize(image.pixels, _THUMBNAIL, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)
