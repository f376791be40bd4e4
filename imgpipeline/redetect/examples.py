"""Draws the boxes of two models on an image: A in one colour, B in another, with a legend below."""

from collections.abc import Sequence

import cv2
import numpy as np

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError
from imgpipeline.objectstore import ImageReader
from imgpipeline.vision.annotate import encode_jpeg, read_pixels, scaled, shrink, write_text
from imgpipeline.vision.decode import Pixels

COLOUR_A, COLOUR_B = (0, 140, 255), (255, 120, 0)
"""Orange and blue, as blue, green, red: nearly everybody can distinguish them."""
_GROUND = (24, 24, 24)
_LONGEST_SIDE = 1280
_QUALITY = 80
_STRIP_PIXELS = 28
_MOST_BOXES = 100


def draw_example(
    images: ImageReader,
    path: str,
    a: tuple[str, Sequence[Detection]],
    b: tuple[str, Sequence[Detection]],
) -> bytes | None:
    """Returns a picture with the boxes of both models as JPEG, at most 1280 pixels wide or high.

    Returns:
        The JPEG; None if the image is no longer available.

    Raises:
        TransientError: The store does not answer.
    """
    try:
        pixels = read_pixels(images, path)
    except BadInputError:
        return None
    canvas = shrink(pixels, _LONGEST_SIDE).copy()
    # B's thin boxes are drawn over A's thick ones, so both are visible where they agree.
    _draw(canvas, scaled(a[1], pixels, canvas), COLOUR_A, thickness=4, above=True)
    _draw(canvas, scaled(b[1], pixels, canvas), COLOUR_B, thickness=2, above=False)
    drawn: Pixels = np.vstack([canvas, _legend(canvas.shape[1], a, b)]).astype(np.uint8, copy=False)
    return encode_jpeg(drawn, quality=_QUALITY)


def _draw(
    canvas: Pixels,
    found: Sequence[Detection],
    colour: tuple[int, int, int],
    *,
    thickness: int,
    above: bool,
) -> None:
    for detection in found[:_MOST_BOXES]:
        left, top, width, height = map(round, detection.box_xywh or ())
        cv2.rectangle(canvas, (left, top), (left + width, top + height), colour, thickness)
        bottom = max(12, top - 4) if above else min(canvas.shape[0] - 4, top + height + 14)
        write_text(canvas, f"{detection.label} {detection.confidence:.2f}", (left, bottom), ink=colour, ground=_GROUND)


def _legend(width: int, a: tuple[str, Sequence[Detection]], b: tuple[str, Sequence[Detection]]) -> Pixels:
    strip = np.full((2 * _STRIP_PIXELS, width, 3), _GROUND, np.uint8)
    for row, ((name, found), colour) in enumerate(((a, COLOUR_A), (b, COLOUR_B))):
        top = _STRIP_PIXELS * row
        cv2.rectangle(strip, (6, top + 6), (24, top + 22), colour, cv2.FILLED)
        write_text(strip, f"{'AB'[row]}: {name}, {len(found)} found", (32, top + 19), ink=colour, ground=_GROUND)
    return strip
