"""Decodes image files into BGR pixels with the EXIF orientation applied; a damaged or truncated image is refused.

Size limits are checked before memory is allocated. Safe to call from many threads; `cv2.setNumThreads` is left alone.

Truncated JPEGs: decoders silently fill missing data with grey. So the markers are checked first (see `jpeg`). Then, if
the last pixel is the filling grey (or that cannot be told), the file is decoded once more with extra bytes at its end:
a complete image stays the same, a truncated one takes the bytes for image data. (`decoder_messages` keeps libjpeg's
complaints off stderr.) Not detected: a JPEG with an end marker whose last one or two blocks (of 16x16 pixels) or last
refinement bits are missing, and flipped bits inside image data of formats without a checksum (all but PNG).

Reduced decoding: a JPEG much larger than the network's input is decoded without its high frequencies
(IMREAD_REDUCED_COLOR_2, _4, _8), in half the time; `reduction` chooses the scale. Confidences differ by 0.01 in the
median, so boxes near the threshold appear or vanish; docs/performance.md measures how many.
`IMGPIPELINE_REDUCED_DECODING=false` switches it off.
"""

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from imgpipeline.errors import BadInputError, DeadLetterCode, TransientError
from imgpipeline.vision.decoder_messages import decoder_messages_held
from imgpipeline.vision.header import ImageHeader, read_header
from imgpipeline.vision.jpeg import JpegStructure, check_complete, walk_jpeg
from imgpipeline.vision.png import check_png
from imgpipeline.vision.reduction import NetworkInput, choose_reduction
from imgpipeline.vision.tiff import without_orientation

__all__ = ["DecodedImage", "ImageHeader", "ImageLimits", "decode_image", "read_header"]

Pixels = npt.NDArray[np.uint8]
"""A picture: uint8 [height, width, 3], BGR."""

_FILL_GREY: Final = 128
_PROBE: Final = b"\x5a\x35\xc6\x2b" * 16
"""Inserted before the end marker; no 0xff, and varied enough to change any block that reads it."""
_OUT_OF_MEMORY: Final = -4
"""cv::Error::StsNoMem."""
_FLAGS: Final = {
    1: cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest image that is accepted."""

    max_pixels: int
    """Width times height that the header may claim, > 0."""
    max_bytes: int
    """Size of the encoded file, > 0."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One complete image."""

    pixels: Pixels
    """uint8 [rows, columns, 3], BGR, upright; rows = height / reduction and columns = width / reduction, rounded up."""
    width: int
    """Pixels of the original, after the orientation was applied."""
    height: int
    """Pixels of the original, after the orientation was applied."""
    orientation: int
    """The EXIF orientation that was applied, 1 (none) to 8."""
    reduction: int = 1
    """How many pixels of the original a pixel is wide and high: 1, 2, 4 or 8."""

    @classmethod
    def of(cls, picture: "Pixels | DecodedImage") -> "DecodedImage":
        """Returns a decoded image as it is, and bare pixels as an upright image of their own size."""
        if isinstance(picture, DecodedImage):
            return picture
        return cls(picture, picture.shape[1], picture.shape[0], 1)


def decode_image(
    data: bytes,
    limits: ImageLimits,
    *,
    header: ImageHeader | None = None,
    reduced_for: NetworkInput | None = None,
) -> DecodedImage:
    """Decodes an image file; of an animation, the first frame.

    Args:
        data: The file: JPEG, PNG, WebP, GIF, BMP or TIFF.
        limits: Larger images are refused before they are decoded.
        header: The file's header, if it was read before.
        reduced_for: The input of the network that gets the image (`ModelSpec.network_input`): a JPEG at least twice as
            large is decoded at half, a quarter or an eighth of its size. None: at its full size.

    Returns:
        The upright image. `Detector.detect` and `measure_quality` take its reduction into account; boxes are in pixels
        of the original.

    Raises:
        BadInputError: `EMPTY_OBJECT`, `TOO_LARGE`, `IMAGE_TOO_LARGE` or `DECODE_FAILED`.
        TransientError: There was not enough memory.
    """
    if not data:
        raise BadInputError(DeadLetterCode.EMPTY_OBJECT, "The image has no bytes.")
    if len(data) > limits.max_bytes:
        message = f"The image has {len(data)} bytes; at most {limits.max_bytes} are allowed."
        raise BadInputError(DeadLetterCode.TOO_LARGE, message)
    header = header or read_header(data)
    if header.width * header.height > limits.max_pixels:
        claim = f"{header.width}x{header.height} pixels"
        message = f"The header claims {claim}; at most {limits.max_pixels} pixels are allowed. It was not decoded."
        raise BadInputError(DeadLetterCode.IMAGE_TOO_LARGE, message)
    width, height = header.upright_size
    reduction = choose_reduction(width, height, reduced_for) if reduced_for and header.format == "jpeg" else 1
    pixels = _decode_as(header.format, data, reduction)
    if pixels.shape[:2] != (math.ceil(header.height / reduction), math.ceil(header.width / reduction)):
        got = f"{pixels.shape[1]}x{pixels.shape[0]}" + (f" at 1/{reduction}" if reduction > 1 else "")
        raise _failed(f"The header claims {header.width}x{header.height} pixels, decoding gave {got}.")
    return DecodedImage(_apply_orientation(pixels, header.orientation), width, height, header.orientation, reduction)


def _decode_as(name: str, data: bytes, reduction: int) -> Pixels:
    if name == "jpeg":
        return _decode_jpeg(data, reduction)
    if name == "png":
        check_png(data)
    # OpenCV always rotates TIFFs upright; like all others, they must be rotated only once.
    return _decode(without_orientation(data) if name == "tiff" else data, name)


def _decode(data: bytes, name: str, reduction: int = 1) -> Pixels:
    try:
        with decoder_messages_held():
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[reduction])
    except cv2.error as error:
        if error.code == _OUT_OF_MEMORY:
            message = f"Not enough memory to decode a {name.upper()} of {len(data)} bytes."
            raise TransientError(message, next_step="give the process more memory or lower the pixel limit") from error
        raise _failed(f"The {name.upper()} cannot be decoded: {error.err or error}.") from error
    if pixels is None:
        raise _failed(
            f"The {name.upper()} of {len(data)} bytes cannot be decoded: it is cut, damaged, or of a rare kind."
        )
    return np.asarray(pixels, np.uint8)


def _decode_jpeg(data: bytes, reduction: int) -> Pixels:
    structure = walk_jpeg(data)
    check_complete(structure)
    pixels = _decode(data, "jpeg", reduction)
    if _could_be_filled(pixels, structure) and not _ignores_more_data(pixels, data, structure, reduction):
        raise _failed("The JPEG ends before its picture does: the file was cut.")
    return pixels


def _could_be_filled(pixels: Pixels, structure: JpegStructure) -> bool:
    if structure.progressive and not structure.last_scan_refines:
        return True  # what is missing is detail and not colour
    return len(structure.sampling) > 3 or bool((pixels[-1, -1] == _FILL_GREY).all())


def _ignores_more_data(pixels: Pixels, data: bytes, structure: JpegStructure, reduction: int) -> bool:
    # A cut between 0xff and its stuffed 0x00 would turn the probe's first byte into a marker.
    longer = data[: structure.end].rstrip(b"\xff") + _PROBE + b"\xff\xd9"
    return bool(np.array_equal(pixels, _decode(longer, "jpeg", reduction)))


def _apply_orientation(pixels: Pixels, orientation: int) -> Pixels:
    """Turns a picture upright (EXIF 2.32, tag 274)."""
    if orientation >= 5:
        pixels = cv2.transpose(pixels).astype(np.uint8, copy=False)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if flip is None else cv2.flip(pixels, flip).astype(np.uint8, copy=False)


def _failed(message: str) -> BadInputError:
    return BadInputError(DeadLetterCode.DECODE_FAILED, message)
