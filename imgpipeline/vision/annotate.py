"""Draws boxes and text on images, shrinks them and encodes them as JPEG."""

import colorsys
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import PermanentError
from imgpipeline.vision.decode import Pixels

JPEG_QUALITY = 90
"""Of frames that a source delivers as pixels, and of images that are kept as files."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
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
        A new image of the same size.
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
    """Returns the colour of a class.

    Args:
        class_id: From 0.

    Returns:
        Blue, green, red, each 0 to 255; the same for the same class, always.
    """
    red, green, blue = colorsys.hsv_to_rgb((class_id * _GOLDEN_ANGLE_TURNS) % 1, 0.85, 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)


def shrink(pixels: Pixels, max_side: int) -> Pixels:
    """Shrinks a large image; boxes that are drawn afterwards keep the width of their lines.

    Args:
        pixels: uint8 [height, width, 3], BGR; not changed.
        max_side: Most pixels of the longer side, > 0.

    Returns:
        A smaller image of the same proportions, or the same one if it is small enough.
    """
    height, width = pixels.shape[:2]
    ratio = max_side / max(height, width)
    if ratio >= 1:
        return pixels
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def encode_jpeg(pixels: Pixels, max_side: int | None = None, quality: int = JPEG_QUALITY) -> bytes:
    """Encodes an image as JPEG.

    Args:
        pixels: uint8 [height, width, 3], BGR.
        max_side: Most pixels of the longer side, > 0; smaller images keep their size. Default: all keep it.
        quality: JPEG quality, 1 to 100.

    Returns:
        The JPEG file.

    Raises:
        PermanentError: OpenCV cannot encode them, such as an image of more than 65,500 pixels on a side.
    """
    shown = pixels if max_side is None else shrink(pixels, max_side)
    written, encoded = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise PermanentError(f"OpenCV cannot encode pixels of shape {pixels.shape} as JPEG.")
    return encoded.tobytes()


def write_text(
    canvas: Pixels,
    text: str,
    corner: tuple[int, int],
    *,
    ink: tuple[int, int, int],
    ground: tuple[int, int, int],
    scale: float = 0.5,
) -> None:
    """Writes one line of text on a filled bar; line breaks become blanks.

    Args:
        canvas: uint8 [height, width, 3], BGR; drawn on.
        text: The text.
        corner: Left end of the text's baseline, pixels.
        ink: Blue, green and red of the text.
        ground: Blue, green and red of the bar.
        scale: Size of the font; 1 is about 22 pixels high.
    """
    text = " ".join(text.split())
    width, height, below = _text_size(text, scale)
    left, baseline = corner
    cv2.rectangle(canvas, (left, baseline - height), (left + width, baseline + below), ground, cv2.FILLED)
    cv2.putText(canvas, text, corner, _FONT, scale, ink, 1, cv2.LINE_AA)


def _text_size(text: str, scale: float) -> tuple[int, int, int]:
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    return width, height, below


def _draw_caption(
    canvas: Pixels, text: str, corner: tuple[int, int], colour: tuple[int, int, int], thickness: int
) -> None:
    """Writes above the box, or inside of it if there is no room above."""
    scale = 0.4 + 0.1 * thickness
    width, height, below = _text_size(" ".join(text.split()), scale)
    left = max(0, min(corner[0], canvas.shape[1] - width))
    bottom = corner[1] if corner[1] > height + below else corner[1] + height + below
    write_text(canvas, text, (left, bottom - below), ink=(0, 0, 0), ground=colour, scale=scale)
