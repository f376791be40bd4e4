"""What a source does to a frame before it is stored: gating, privacy masks, resizing, encoding.

None of this happens by default: encoded bytes are stored as received. Masks are painted first, so that what they
cover is in no stored image, thumbnail or measurement.
"""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from imgpipeline.contracts.capture import Gated
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.sources.images import EncodedImage, encode, stretch
from imgpipeline.sources.protocol import CapturedFrame
from imgpipeline.vision.decode import DecodedImage, ImageLimits, decode_image
from imgpipeline.vision.gate import Gate, GateKeeper
from imgpipeline.vision.quality import measure_quality
from imgpipeline.vision.reduction import NetworkInput

Polygon = tuple[tuple[float, float], ...]
"""Three or more points (x, y) as fractions of width and height of the upright image, 0 to 1."""
_MEASURED = NetworkInput(640, 640, "letterbox")
"""A large JPEG is decoded at about this size if only its brightness, sharpness or change is measured."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is done to the frames of a source."""

    gate: Gate = field(default_factory=Gate)
    """Which frames are left out."""
    store_gated: bool = True
    """Whether the images of frames that are left out are stored."""
    masks: tuple[Polygon, ...] = ()
    """Parts of the image that are painted black."""
    resize: tuple[int, int] | None = None
    """Width and height in pixels of the stored image, which is stretched to them; None: as received."""
    derive: tuple[str, ...] = ()
    """Images that are derived from the stored one and stored beside it (`derived_images`)."""

    @property
    def changes_images(self) -> bool:
        """Whether the stored image differs from the received one."""
        return bool(self.masks or self.resize)


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A frame that is ready to be stored."""

    image: EncodedImage
    """Its bytes."""
    gated: Gated | None
    """Why it is left out; None if it is not."""


class Preparer:
    """Prepares the frames of one source; thread-safe."""

    def __init__(self, preparation: Preparation, limits: ImageLimits) -> None:
        """Takes what to do, and the largest image that is decoded."""
        self._preparation = preparation
        self._limits = limits
        self._keeper = GateKeeper(preparation.gate)

    @property
    def needs_order(self) -> bool:
        """Whether a frame is compared with the one before, so that frames must be prepared in their order."""
        return self._preparation.gate.min_change is not None

    def prepare(self, source: str, frame: CapturedFrame) -> PreparedFrame:
        """Prepares one frame.

        Raises:
            BadInputError: The image must be changed and cannot be decoded. An image that need not be changed is
                passed on; the pipeline records it as a dead letter.
            PermanentError: The frame has neither bytes nor pixels.
        """
        preparation = self._preparation
        gated = self._keeper.decide_by_time(frame.timestamp)
        if preparation.changes_images:
            frame = replace(frame, data=None, pixels=self._changed(frame))
        if not gated and preparation.gate:
            gated = self._decide(source, frame)
        return PreparedFrame(encode(frame), gated)

    def _changed(self, frame: CapturedFrame) -> np.ndarray:
        pixels = self._decoded(frame, reduced=False).pixels.copy()
        height, width = pixels.shape[:2]
        for polygon in self._preparation.masks:
            points = np.rint(np.array(polygon) * (width, height)).astype(np.int32)
            cv2.fillPoly(pixels, [points], (0, 0, 0))
        size = self._preparation.resize
        if size and size != (width, height):
            pixels = stretch(pixels, size)
        return pixels

    def _decide(self, source: str, frame: CapturedFrame) -> Gated | None:
        try:
            image = self._decoded(frame, reduced=True)
        except BadInputError:
            return None
        return self._keeper.decide(source, image, measure_quality(image))

    def _decoded(self, frame: CapturedFrame, *, reduced: bool) -> DecodedImage:
        if frame.data is not None:
            return decode_image(frame.data, self._limits, reduced_for=_MEASURED if reduced else None)
        if frame.pixels is None or frame.pixels.size == 0:
            raise BadInputError(DeadLetterCode.DECODE_FAILED, "A source yielded a frame without an image.")
        return DecodedImage.of(frame.pixels)


def parse_size(text: str) -> tuple[int, int]:
    """Reads a size such as `640x360`.

    Raises:
        ValueError: That is not a size.
    """
    width, cross, height = text.lower().partition("x")
    if not cross or not all(side.isdecimal() and 0 < int(side) < 65_536 for side in (width, height)):
        raise ValueError(f"got {text!r}, expected a size such as 640x360")
    return int(width), int(height)


def parse_polygon(text: str) -> Polygon:
    """Reads a polygon such as `0,0 0.5,0 0.5,0.2`.

    Raises:
        ValueError: The text is not a polygon of fractions.
    """
    points = [tuple(float(number) for number in point.split(",")) for point in text.split()]
    if len(points) < 3 or any(len(point) != 2 or not all(0 <= number <= 1 for number in point) for point in points):
        raise ValueError(f"got {text!r}, expected three or more points x,y between 0 and 1, separated by blanks")
    return tuple((point[0], point[1]) for point in points)
