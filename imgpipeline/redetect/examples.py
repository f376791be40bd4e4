"""Pictures in which the boxes of two models are drawn.

Owns how they look: A in one colour, B in another, and below the picture which is which. That a picture cannot be read
any more is no error: there is none then.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError
from imgpipeline.objectstore import ImageReader
from imgpipeline.settings import Settings
from imgpipeline.vision.annotate import encode_jpeg, shrink
from imgpipeline.vision.decode import ImageLimits, Pixels, decode_image

COLOUR_A, COLOUR_B = (0, 140, 255), (255, 120, 0)
"""Orange and blue, as blue, green, red: told apart by nearly everybody."""
_LONGEST_SIDE = 1280
_QUALITY = 80
_STRIP_PIXELS = 28
_MOST_BOXES = 100


def draw_example(
    settings: Settings,
    images: ImageReader,
    path: str,
    a: tuple[str, Sequence[Detection]],
    b: tuple[str, Sequence[Detection]],
) -> bytes | None:
    """Returns a picture with the boxes of both models as JPEG, at most 1280 pixels wide or high.

    Args:
        settings: Limits of pictures.
        images: Reads the picture.
        path: Where it is stored.
        a: Name of A, and what it found.
        b: Name of B, and what it found.

    Returns:
        The JPEG; None where the picture cannot be had any more.

    Raises:
        TransientError: The store does not answer.
    """
    try:
        limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
        pixels = decode_image(images.read(path).data, limits).pixels
    except BadInputError:
        return None
    ratio = min(1.0, _LONGEST_SIDE / max(pixels.shape))
    canvas = shrink(pixels, _LONGEST_SIDE).copy()
    # B's boxes are drawn thin over A's thick ones: where both agree, both are seen.
    _draw(canvas, a[1], COLOUR_A, ratio, thickness=4, above=True)
    _draw(canvas, b[1], COLOUR_B, ratio, thickness=2, above=False)
    drawn: Pixels = np.vstack([canvas, _legend(canvas.shape[1], a, b)]).astype(np.uint8, copy=False)
    return encode_jpeg(drawn, max(drawn.shape), _QUALITY)


def _draw(
    canvas: Pixels,
    found: Sequence[Detection],
    colour: tuple[int, int, int],
    ratio: float,
    *,
    thickness: int,
    above: bool,
) -> None:
    for detection in found[:_MOST_BOXES]:
        if detection.box_xywh is None:
            continue
        left, top, width, height = (round(value * ratio) for value in detection.box_xywh)
        cv2.rectangle(canvas, (left, top), (left + width, top + height), colour, thickness)
        bottom = max(12, top - 4) if above else min(canvas.shape[0] - 4, top + height + 14)
        _write(canvas, f"{detection.label} {detection.confidence:.2f}", (left, bottom), colour)


def _legend(width: int, a: tuple[str, Sequence[Detection]], b: tuple[str, Sequence[Detection]]) -> Pixels:
    strip = np.full((2 * _STRIP_PIXELS, width, 3), 24, np.uint8)
    for row, ((name, found), colour) in enumerate(((a, COLOUR_A), (b, COLOUR_B))):
        top = _STRIP_PIXELS * row
        cv2.rectangle(strip, (6, top + 6), (24, top + 22), colour, cv2.FILLED)
        _write(strip, f"{'AB'[row]}: {name}, {len(found)} found", (32, top + 19), colour)
    return strip


def _write(canvas: Pixels, text: str, corner: tuple[int, int], colour: tuple[int, int, int]) -> None:
    text = " ".join(text.split())  # a line break would be drawn as one
    font, scale, (left, bottom) = cv2.FONT_HERSHEY_SIMPLEX, 0.5, corner
    (width, height), below = cv2.getTextSize(text, font, scale, 1)
    cv2.rectangle(canvas, (left, bottom - height - 2), (left + width, bottom + below), (24, 24, 24), cv2.FILLED)
    cv2.putText(canvas, text, corner, font, scale, colour, 1, cv2.LINE_AA)
