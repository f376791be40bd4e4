"""Decodes image files into BGR pixels with the EXIF orientation applied; refuses damaged and truncated images.

Size limits are checked before memory is allocated. Safe to call from many threads; does not change
`cv2.setNumThreads`.

Truncated JPEGs: decoders silently fill missing data with grey. So the markers are checked first (see `header`). If the
last pixel is that grey, or the check is not conclusive, the file is decoded again with extra bytes at its end: a
complete image stays the same, whereas a truncated one takes the bytes as image data. Two faults go undetected: a JPEG
with an end marker whose last one or two blocks (of 16x16 pixels) or last refinement bits are missing, and flipped bits
in the image data of formats without a checksum (all but PNG).

Reduced decoding: a JPEG much larger than the network's input is decoded without its high frequencies
(IMREAD_REDUCED_COLOR_2, _4, _8), in half the time. The reduced image is never smaller than the network's input or the
size at which quality is measured. Confidences differ by 0.01 in the median, so boxes near the threshold appear or
vanish. `IMGPIPELINE_REDUCED_DECODING=false` turns it off.
"""

import math
import os
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from imgpipeline.errors import BadInputError, DeadLetterCode, TransientError
from imgpipeline.vision.header import ImageHeader, JpegStructure, check_complete, read_header
from imgpipeline.vision.model import NetworkInput

Pixels = npt.NDArray[np.uint8]
"""A picture: uint8 [height, width, 3], BGR."""

_FILL_GREY: Final = 128
_PROBE: Final = b"\x5a\x35\xc6\x2b" * 16
"""Inserted before the end marker; no 0xff, and varied enough to change any block that reads it."""
_OUT_OF_MEMORY: Final = -4
"""cv::Error::StsNoMem."""
_REDUCTIONS: Final = (8, 4, 2)
"""The reductions that cost a JPEG decoder almost nothing, the largest first."""
_MEASURED_SIDE_PX: Final = 640
"""Longest side of the picture on which quality is measured."""
_FLAGS: Final = {
    1: cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}

if "OPENCV_LOG_LEVEL" not in os.environ:
    # OpenCV also logs the errors that it raises or returns, and for a damaged TIFF or WebP many lines.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest image that is accepted."""

    max_pixels: int
    """Width times height that the header may claim, > 0."""
    max_bytes: int
    """Size of the encoded file, > 0."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One complete image; width and height are those of the upright original in pixels."""

    pixels: Pixels
    """uint8 [rows, columns, 3], BGR, upright; rows = height / reduction and columns = width / reduction, rounded up."""
    width: int
    height: int
    orientation: int
    """The EXIF orientation that was applied, 1 (none) to 8."""
    reduction: int = 1
    """Width and height of a pixel in pixels of the original: 1, 2, 4 or 8."""

    @classmethod
    def of(cls, picture: "Pixels | DecodedImage") -> "DecodedImage":
        """Returns a decoded image unchanged, and an array of pixels as an upright image of its size."""
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
    """Decodes an image file, or the first frame of an animation.

    Args:
        data: The file: JPEG, PNG, WebP, GIF, BMP or TIFF.
        limits: Larger images are refused before they are decoded.
        header: The file's header, if it was already read.
        reduced_for: The input of the network that gets the image (`ModelSpec.network_input`): a JPEG at least twice as
            large is decoded at a half, a quarter or an eighth of its size. None: full size.

    Returns:
        The upright image. `Detector.detect` and `measure_quality` handle its reduction; boxes are in pixels of the
        original.

    Raises:
        BadInputError: `EMPTY_OBJECT`, `TOO_LARGE`, `IMAGE_TOO_LARGE` or `DECODE_FAILED`.
        TransientError: There is not enough memory.
    """
    header = _check_limits(data, limits, header)
    width, height = header.upright_size
    reduction = choose_reduction(width, height, reduced_for) if reduced_for and header.format == "jpeg" else 1
    pixels = _decode_whole(header.format, data, reduction)
    if header.format != "tiff":  # OpenCV always turns TIFFs upright
        pixels = _apply_orientation(pixels, header.orientation)
    if pixels.shape[:2] != (math.ceil(height / reduction), math.ceil(width / reduction)):
        got = f"{pixels.shape[1]}x{pixels.shape[0]}" + (f" at 1/{reduction}" if reduction > 1 else "")
        raise _failed(f"The header claims {width}x{height} pixels, upright; decoding gave {got}.")
    return DecodedImage(pixels, width, height, header.orientation, reduction)


def check_undecoded(data: bytes, limits: ImageLimits) -> None:
    """Checks an image file as far as that is possible without decoding: its limits, and that a JPEG or PNG is complete.

    Raises:
        BadInputError: `EMPTY_OBJECT`, `TOO_LARGE`, `IMAGE_TOO_LARGE` or `DECODE_FAILED`; `decode_image` would, too.
    """
    check_complete(data, _check_limits(data, limits).format)


def measured_reduction(width: int, height: int) -> int:
    """Returns the power of two by which a picture is reduced, to at most 640 pixels a side, to measure its quality."""
    reduction = 1
    while max(width, height) > _MEASURED_SIDE_PX * reduction:
        reduction *= 2
    return reduction


def choose_reduction(width: int, height: int, wanted: NetworkInput) -> int:
    """Returns the largest reduction of an upright picture that neither the network nor the measuring of quality undoes.

    It is 1, 2, 4 or 8. `wanted` is the input of the network that gets the picture.
    """
    needed_width, needed_height = wanted.placed_size(width, height)
    most = measured_reduction(width, height)
    for reduction in _REDUCTIONS:
        if reduction <= most and width >= reduction * needed_width and height >= reduction * needed_height:
            return reduction
    return 1


def _check_limits(data: bytes, limits: ImageLimits, header: ImageHeader | None = None) -> ImageHeader:
    if not data:
        raise BadInputError(DeadLetterCode.EMPTY_OBJECT, "The image has no bytes.")
    if len(data) > limits.max_bytes:
        message = f"The image has {len(data)} bytes; at most {limits.max_bytes} are allowed."
        raise BadInputError(DeadLetterCode.TOO_LARGE, message)
    header = header or read_header(data)
    if header.width * header.height > limits.max_pixels:
        claim = f"{header.width}x{header.height} pixels"
        message = f"The header claims {claim}; at most {limits.max_pixels} pixels are allowed. It is not decoded."
        raise BadInputError(DeadLetterCode.IMAGE_TOO_LARGE, message)
    return header


def _decode_whole(name: str, data: bytes, reduction: int) -> Pixels:
    jpeg = check_complete(data, name)
    pixels = _decode(data, name, reduction)
    if jpeg and _could_be_filled(pixels, jpeg) and not _ignores_more_data(pixels, data, jpeg, reduction):
        raise _failed("The JPEG ends before its picture does: the file is truncated.")
    return pixels


def _decode(data: bytes, name: str, reduction: int = 1) -> Pixels:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[reduction])
    except cv2.error as error:
        if error.code == _OUT_OF_MEMORY:
            message = f"Not enough memory to decode a {name.upper()} of {len(data)} bytes."
            raise TransientError(message, next_step="give the process more memory or lower the pixel limit") from error
        raise _failed(f"The {name.upper()} cannot be decoded: {error.err or error}.") from error
    if pixels is None:
        raise _failed(
            f"The {name.upper()} of {len(data)} bytes cannot be decoded: it is truncated, damaged or not supported."
        )
    return np.asarray(pixels, np.uint8)


def _could_be_filled(pixels: Pixels, structure: JpegStructure) -> bool:
    if structure.progressive and not structure.last_scan_refines:
        return True  # detail would be missing, not colour
    return len(structure.sampling) > 3 or bool((pixels[-1, -1] == _FILL_GREY).all())


def _ignores_more_data(pixels: Pixels, data: bytes, structure: JpegStructure, reduction: int) -> bool:
    # If the file ends between 0xff and its stuffed 0x00, the probe's first byte would become a marker.
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
