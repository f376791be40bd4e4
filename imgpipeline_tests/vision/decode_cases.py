"""The files that the tests of decoding damage, and a check of the outcome."""

import cv2
import numpy as np
import pytest

from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline_tests.vision.pictures import (
    detailed_picture,
    encode,
)

LIMITS = ImageLimits(max_pixels=50_000_000, max_bytes=20_000_000)
PICTURE = detailed_picture()
LAST_BLOCKS_BYTES = 150
"""Of the encoded data, what the last two blocks of the picture take at most; see the module's docstring."""

FILES = {
    "png": encode(".png", PICTURE),
    "webp": encode(".webp", PICTURE, cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless webp": encode(".webp", PICTURE, cv2.IMWRITE_WEBP_QUALITY, 101),
    "gif": encode(".gif", PICTURE),
    "bmp": encode(".bmp", PICTURE),
    "tiff": encode(".tiff", PICTURE),
    "raw tiff": encode(".tiff", PICTURE, cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "jpeg": encode(".jpg", PICTURE),
    "grey jpeg": encode(".jpg", PICTURE[..., 1]),
    "progressive jpeg": encode(".jpg", PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "jpeg with restarts": encode(".jpg", PICTURE, cv2.IMWRITE_JPEG_RST_INTERVAL, 7),
}
JPEGS = [name for name in FILES if "jpeg" in name]


def refused(data: bytes, limits: ImageLimits = LIMITS) -> DeadLetterCode:
    with pytest.raises(BadInputError) as caught:
        decode_image(data, limits)
    return caught.value.code


def cuts(size_bytes: int, count: int, begin: int = 1) -> list[int]:
    """Places to cut, spread over the file, with the last bytes among them."""
    return sorted({*np.linspace(begin, size_bytes - 1, count).astype(int).tolist(), size_bytes - 2, size_bytes - 1})


def outcome(data: bytes) -> str:
    try:
        image = decode_image(data, LIMITS)
    except BadInputError as error:
        return "refused" if error.code in (DeadLetterCode.DECODE_FAILED, DeadLetterCode.IMAGE_TOO_LARGE) else error.code
    assert image.pixels.shape == (image.height, image.width, 3)
    return "decoded"
