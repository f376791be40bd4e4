"""Draws boxes, text and paths on images, shrinks them, and encodes them as JPEG or as previews of a limited size.

Images are uint8 [height, width, 3], BGR, and never changed, except for the canvas of `write_text`.
"""

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import PermanentError
from imgpipeline.objectstore import ImageReader
from imgpipeline.vision.decode import ImageLimits, Pixels, decode_image

JPEG_QUALITY = 90
"""Quality of frames that a source delivers as pixels, and of images that are saved as files."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN_ANGLE_TURNS = 0.381966
"""Difference between the hues of consecutive class ids, which keeps their colours far apart."""
_PATH_OUTLINE = (20, 20, 20)
_SUBPIXEL_BITS = 4
_PREVIEW_QUALITIES = (80, 65, 50, 35, 20, 15)


def draw_detections(
    pixels: Pixels,
    detections: Sequence[Detection],
    colour_of: Callable[[Detection], tuple[int, int, int]] | None = None,
) -> Pixels:
    """Returns a copy of an image with the boxes of detections, each with label and confidence.

    Args:
        pixels: Not changed.
        detections: Those without a box are not drawn.
        colour_of: Returns blue, green and red of a detection. Default: one colour per class.
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
    """Returns the fixed colour of a class: blue, green, red, each 0 to 255."""
    red, green, blue = colorsys.hsv_to_rgb((class_id * _GOLDEN_ANGLE_TURNS) % 1, 0.85, 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)


def shrink(pixels: Pixels, max_side: int) -> Pixels:
    """Returns a smaller image with the same proportions, or the same image if no side has more than `max_side` pixels.

    Boxes that are drawn afterwards keep their line width.
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
        max_side: Maximum length of the longer side in pixels, > 0; larger images are shrunk. Default: no limit.
        quality: JPEG quality, 1 to 100.

    Raises:
        PermanentError: OpenCV cannot encode the image, for example because a side has more than 65,500 pixels.
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
    """Writes one line of text on a filled bar; line breaks become spaces.

    Args:
        canvas: The image, which is changed.
        corner: Left end of the text's baseline in pixels.
        ink: Blue, green and red of the text.
        ground: Blue, green and red of the bar.
        scale: Font size; 1 is about 22 pixels high.
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
    """Writes above the box, or inside it if there is no room above."""
    scale = 0.4 + 0.1 * thickness
    width, height, below = _text_size(" ".join(text.split()), scale)
    left = max(0, min(corner[0], canvas.shape[1] - width))
    bottom = corner[1] if corner[1] > height + below else corner[1] + height + below
    write_text(canvas, text, (left, bottom - below), ink=(0, 0, 0), ground=colour, scale=scale)


@dataclass(frozen=True, slots=True)
class DrawnPath:
    """The path of one object."""

    points: Sequence[tuple[float, float]]
    """x and y in pixels of the image, in order of time."""
    colour: tuple[int, int, int]
    """Blue, green, red, each 0 to 255."""


def draw_paths(pixels: Pixels, paths: Sequence[DrawnPath]) -> Pixels:
    """Returns a copy of an image with paths, the topmost first: lines with a dark outline, and a dot at the end."""
    canvas = pixels.copy()
    thickness = max(1, round(max(canvas.shape[:2]) / 300))
    for path in reversed(paths):
        if not path.points:
            continue
        fixed = np.round(np.array(path.points) * 2**_SUBPIXEL_BITS).astype(np.int32)
        for colour, width in ((_PATH_OUTLINE, thickness + 2), (path.colour, thickness)):
            cv2.polylines(canvas, [fixed], False, colour, width, cv2.LINE_AA, _SUBPIXEL_BITS)
            radius = (thickness + width) << _SUBPIXEL_BITS
            end = (int(fixed[-1][0]), int(fixed[-1][1]))
            cv2.circle(canvas, end, radius, colour, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


def read_pixels(images: ImageReader, path: str) -> Pixels:
    """Reads and decodes a stored image at its full size, upright; the reader's settings limit its size.

    Raises:
        BadInputError: The image is missing, not allowed, too large or damaged.
        TransientError: The store does not answer.
        ForbiddenError: The store refuses everything.
    """
    limits = ImageLimits(images.settings.max_image_pixels, images.settings.max_image_bytes)
    return decode_image(images.read(path).data, limits).pixels


def draw_preview(
    pixels: Pixels,
    detections: Sequence[Detection],
    *,
    max_side: int,
    most_bytes: int,
    colour_of: Callable[[Detection], tuple[int, int, int]] | None = None,
) -> bytes:
    """Returns a JPEG of a shrunk copy of an image with detections, whose captions have the same size on every image.

    Arguments as for `draw_detections` and `encode_preview`.
    """
    small = shrink(pixels, max_side)
    return encode_preview(draw_detections(small, scaled(detections, pixels, small), colour_of), max_side, most_bytes)


def scaled(detections: Sequence[Detection], pixels: Pixels, small: Pixels) -> list[Detection]:
    """Returns the detections that have a box, with their boxes in pixels of the shrunk image."""
    x_ratio, y_ratio = small.shape[1] / pixels.shape[1], small.shape[0] / pixels.shape[0]
    return [
        replace(found, box_xywh=(x * x_ratio, y * y_ratio, width * x_ratio, height * y_ratio))
        for found in detections
        if found.box_xywh is not None
        for x, y, width, height in [found.box_xywh]
    ]


def encode_preview(pixels: Pixels, max_side: int, most_bytes: int) -> bytes:
    """Returns a JPEG with the best quality that fits.

    Args:
        max_side: Maximum length of the longer side in pixels.
        most_bytes: Maximum size of the JPEG file, exceeded only if the lowest quality does not fit either.
    """
    small = shrink(pixels, max_side)
    encoded = b""
    for quality in _PREVIEW_QUALITIES:
        encoded = encode_jpeg(small, max_side, quality)
        if len(encoded) <= most_bytes:
            break
    return encoded
