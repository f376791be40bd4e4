"""Leaves frames out before detection: at the wrong time of day, too dark, blurred, or like the frame before.

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
from imgpipeline.vision.decode import DecodedImage
from imgpipeline.vision.quality import Quality

_THUMBNAIL = (64, 36)
_MOST_SOURCES = 10_000


class GateReason(StrEnum):
    """Why a frame was left out."""

    TIME_OF_DAY = "time_of_day"
    """Outside the hours of the gate."""
    DARK = "dark"
    """Brightness below the limit."""
    BLURRED = "blurred"
    """Sharpness below the limit."""
    UNCHANGED = "unchanged"
    """Too little differs from the last frame of the source that was kept."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Which frames are left out; None leaves nothing out."""

    min_brightness: float | None = None
    """Least mean luma, 0 to 255."""
    min_sharpness: float | None = None
    """Least variance of the Laplacian (`vision.quality`)."""
    min_change: float | None = None
    """Least mean difference of luma, 0 to 255, to the last kept frame of the source; both at 64x36 pixels."""
    hours: Hours | None = None
    """Frames of other hours are left out."""

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        limits = (self.min_brightness, self.min_sharpness, self.min_change, self.hours)
        return any(limit is not None for limit in limits)


class GateKeeper:
    """Decides frame by frame, and remembers the last kept frame of each source; thread-safe."""

    def __init__(self, gate: Gate) -> None:
        """Starts without remembered frames: the first one of each source is not a repetition."""
        self.gate = gate
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def decide_by_time(self, time: datetime) -> Gated | None:
        """Returns why a frame of this time is left out, before it is decoded; None if it is not."""
        hours = self.gate.hours
        return None if hours is None or hours.contain(time) else Gated(GateReason.TIME_OF_DAY)

    def decide(self, source: str, image: DecodedImage, quality: Quality) -> Gated | None:
        """Returns why a decoded frame is left out; None if it is kept, and then the next one is compared with it."""
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
