"""Pictures for people: boxes drawn in, small enough for a page.

Owns drawing and the preview's JPEG. Promises not to touch the picture it is given, and one colour a class.
"""

import colorsys
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import PermanentError
from imgpipeline.vision.decode import Pixels

_GOLDEN_ANGLE_TURNS = 0.381966
"""Neighbouring class ids get hues that lie far apart."""


def draw_detections(
    pixels: Pixels,
    detections: Sequence[Detection],
    colour_of: Callable[[Detection], tuple[int, int, int]] | None = None,
) -> Pixels:
    """Draws boxes with label and confidence.

    Args:
        pixels: uint8 [height, width, 3], BGR; not changed.
        detections: What was found in it; one without a box cannot be drawn.
        colour_of: Blue, green and red of a detection; default: one colour a class.

    Returns:
        A new picture of the same size.
    """
    canvas = pixels.copy()
    height, width = canvas.shape[:2]
    thickness = max(1, round(max(height, width) / 400))
    for detection in reversed(detections):
        if detection.box_xywh is None:
            continue
        left, top, box_width, box_height = detection.box_xywh
        corner = (round(left), round(top))
        far = (min(width - 1, round(left + box_width)), min(height - 1, round(top + box_height)))
        colour = colour_of(detection) if colour_of else class_colour(detection.class_id or 0)
        cv2.rectangle(canvas, corner, far, colour, thickness)
        _draw_caption(canvas, f"{detection.label} {detection.confidence:.2f}", corner, colour, thickness)
    return canvas


def class_colour(class_id: int) -> tuple[int, int, int]:
    """Gives the colour of a class.

    Args:
        class_id: From 0.

    Returns:
        Blue, green, red, each 0 to 255; the same for the same class, always.
    """
    red, green, blue = colorsys.hsv_to_rgb((class_id * _GOLDEN_ANGLE_TURNS) % 1, 0.85, 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)


def shrink(pixels: Pixels, max_side: int) -> Pixels:
    """Makes a large picture small; boxes that are drawn afterwards keep the width of their lines.

    Args:
        pixels: uint8 [height, width, 3], BGR; not changed.
        max_side: The longer side's most pixels, > 0.

    Returns:
        A smaller picture of the same proportions, or the same one where it is small enough.
    """
    height, width = pixels.shape[:2]
    ratio = max_side / max(height, width)
    if ratio >= 1:
        return pixels
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def encode_jpeg(pixels: Pixels, max_side: int, quality: int) -> bytes:
    """Makes a preview.

    Args:
        pixels: uint8 [height, width, 3], BGR.
        max_side: The longer side's most pixels, > 0; smaller pictures keep their size.
        quality: JPEG quality, 1 to 100.

    Returns:
        The JPEG file.

    Raises:
        PermanentError: OpenCV cannot write JPEG.
    """
    written, encoded = cv2.imencode(".jpg", shrink(pixels, max_side), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise PermanentError("OpenCV cannot write a JPEG.", next_step="install opencv-python again")
    return encoded.tobytes()


def _draw_caption(
    canvas: Pixels, text: str, corner: tuple[int, int], colour: tuple[int, int, int], thickness: int
) -> None:
    """Writes on a filled bar above the box, or inside of it where there is no room above."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4 + 0.1 * thickness
    text = " ".join(text.split())  # a line break would be drawn as one
    (text_width, text_height), baseline = cv2.getTextSize(text, font, scale, 1)
    left = max(0, min(corner[0], canvas.shape[1] - text_width))
    bottom = corner[1] if corner[1] > text_height + baseline else corner[1] + text_height + baseline
    cv2.rectangle(canvas, (left, bottom - text_height - baseline), (left + text_width, bottom), colour, -1)
    cv2.putText(canvas, text, (left, bottom - baseline), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
