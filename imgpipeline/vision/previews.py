"""Previews: stored images with boxes drawn on them, small enough for a page or an event log."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from imgpipeline.contracts.detection import Detection
from imgpipeline.objectstore import ImageReader
from imgpipeline.vision.annotate import draw_detections, encode_jpeg, shrink
from imgpipeline.vision.decode import ImageLimits, Pixels, decode_image

_QUALITIES = (80, 65, 50, 35, 20, 15)


def read_pixels(images: ImageReader, path: str) -> Pixels:
    """Reads and decodes a stored image at its full size.

    Args:
        images: Reads it; its settings limit its size.
        path: Where it is stored.

    Returns:
        uint8 [height, width, 3], BGR, upright.

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
    """Shrinks an image, draws detections on it and encodes it; the captions keep their size.

    Args:
        pixels: uint8 [height, width, 3], BGR; not changed.
        detections: Boxes in pixels of the image.
        max_side: Most pixels of the preview's longer side.
        most_bytes: See `encode_preview`.
        colour_of: Blue, green and red of a detection; default: one colour per class.

    Returns:
        A JPEG file.
    """
    small = shrink(pixels, max_side)
    return encode_preview(draw_detections(small, scaled(detections, pixels, small), colour_of), max_side, most_bytes)


def scaled(detections: Sequence[Detection], pixels: Pixels, small: Pixels) -> list[Detection]:
    """Returns the detections that have a box, with the boxes in pixels of the shrunk image."""
    x_ratio, y_ratio = small.shape[1] / pixels.shape[1], small.shape[0] / pixels.shape[0]
    return [
        replace(found, box_xywh=(x * x_ratio, y * y_ratio, width * x_ratio, height * y_ratio))
        for found in detections
        if found.box_xywh is not None
        for x, y, width, height in [found.box_xywh]
    ]


def encode_preview(pixels: Pixels, max_side: int, most_bytes: int) -> bytes:
    """Encodes an image with the best JPEG quality that fits.

    Args:
        pixels: uint8 [height, width, 3], BGR.
        max_side: Most pixels of the longer side.
        most_bytes: Size of the JPEG file; only an image that is larger even at the lowest quality exceeds it.

    Returns:
        The JPEG file.
    """
    small = shrink(pixels, max_side)
    encoded = b""
    for quality in _QUALITIES:
        encoded = encode_jpeg(small, max_side, quality)
        if len(encoded) <= most_bytes:
            break
    return encoded
