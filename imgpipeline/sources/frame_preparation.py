"""Prepares a captured frame to be stored: gates, masks, resizes and encodes it, and derives further images from it.

By default, encoded bytes pass through unchanged. Masks are painted first, so no stored image, thumbnail or measurement
shows what they cover.
"""

from dataclasses import dataclass, replace
from hashlib import sha256

import cv2
import numpy as np

from imgpipeline.contracts.capture import Gated
from imgpipeline.errors import BadInputError, DeadLetterCode, PermanentError
from imgpipeline.sources.options import EDGES, GRAY, Preparation, parse_size
from imgpipeline.sources.protocol import CapturedFrame
from imgpipeline.vision.annotate import encode_jpeg
from imgpipeline.vision.decode import DecodedImage, ImageLimits, Pixels, decode_image
from imgpipeline.vision.gate import GateKeeper, measure_quality
from imgpipeline.vision.header import read_header
from imgpipeline.vision.model import NetworkInput

_MEASURED = NetworkInput(640, 640, "letterbox")
"""A large JPEG is decoded at about this size if only its brightness, sharpness or change is measured."""
_ENCODED = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_EDGE_LIMITS = (100, 200)


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of one image as they are stored."""

    data: bytes
    sha256: str
    width: int | None
    """Width of the upright image in pixels; None if the header cannot be read."""
    height: int | None
    """Height of the upright image in pixels; None if the header cannot be read."""


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A frame that is ready to be stored."""

    image: EncodedImage
    gated: Gated | None
    """Why it is left out; None if it is not."""


class Preparer:
    """Prepares the frames of one source; thread-safe."""

    def __init__(self, preparation: Preparation, limits: ImageLimits) -> None:
        """Takes what to do, and the largest image that may be decoded."""
        self._preparation = preparation
        self._limits = limits
        self._keeper = GateKeeper(preparation.gate)

    @property
    def needs_order(self) -> bool:
        """Whether each frame is compared with the previous one, so that frames must be prepared in order."""
        return self._preparation.gate.min_change is not None

    def prepare(self, source: str, frame: CapturedFrame) -> PreparedFrame:
        """Prepares one frame.

        Raises:
            BadInputError: The image must be masked but cannot be decoded. Without masks, it is passed on unchanged; the
                pipeline records it as a dead letter.
            PermanentError: The frame has neither bytes nor pixels.
        """
        preparation = self._preparation
        gated = self._keeper.decide_by_time(frame.timestamp)
        if preparation.changes_images:
            frame = self._changed(frame)
        if not gated and preparation.gate:
            gated = self._decide(source, frame)
        return PreparedFrame(encode(frame), gated)

    def _changed(self, frame: CapturedFrame) -> CapturedFrame:
        try:
            pixels = self._decoded(frame, reduced=False).pixels.copy()
        except BadInputError:
            if self._preparation.masks or frame.data is None:
                raise
            return frame
        height, width = pixels.shape[:2]
        for polygon in self._preparation.masks:
            points = np.rint(np.array(polygon) * (width, height)).astype(np.int32)
            cv2.fillPoly(pixels, [points], (0, 0, 0))
        size = self._preparation.resize
        if size and size != (width, height):
            pixels = stretch(pixels, size)
        return replace(frame, data=None, pixels=pixels)

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


def encode(frame: CapturedFrame) -> EncodedImage:
    """Returns the frame's own bytes unchanged, or its pixels as JPEG.

    Raises:
        PermanentError: The frame has neither bytes nor pixels that can be encoded.
    """
    if frame.data is not None:
        width, height = size_of(frame.data)
        return EncodedImage(frame.data, frame.sha256 or sha256(frame.data).hexdigest(), width, height)
    if frame.pixels is None:
        raise PermanentError("A source yielded a frame without bytes and without pixels.")
    data = encode_jpeg(frame.pixels)
    return EncodedImage(data, sha256(data).hexdigest(), frame.pixels.shape[1], frame.pixels.shape[0])


def derive(data: bytes, name: str, derivations: tuple[str, ...], limits: ImageLimits) -> dict[str, bytes]:
    """Derives images from an encoded image.

    Args:
        name: Its file name or key; its ending chooses the format of the derived images.
        derivations: What to derive (`options.check_derivation`).

    Returns:
        The encoded images by derivation; empty if the original cannot be decoded.
    """
    try:
        pixels = decode_image(data, limits).pixels
    except BadInputError:
        return {}
    ending = next((ending for ending in _ENCODED if name.lower().endswith(ending)), ".jpg")  # OpenCV cannot write all
    return {text: cv2.imencode(ending, _derived(pixels, text))[1].tobytes() for text in derivations}


def stretch(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretches pixels to a width and height: averaged where the image shrinks, interpolated where it grows."""
    interpolation = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation))


def _derived(pixels: Pixels, derivation: str) -> np.ndarray:
    if derivation not in (GRAY, EDGES):
        return stretch(pixels, parse_size(derivation))
    gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.Canny(gray, *_EDGE_LIMITS) if derivation == EDGES else gray)


def size_of(data: bytes) -> tuple[int | None, int | None]:
    """Returns width and height of the upright image; None for both if its header cannot be read."""
    try:
        header = read_header(data)
    except BadInputError:
        return None, None
    turned = header.orientation >= 5
    return (header.height, header.width) if turned else (header.width, header.height)
