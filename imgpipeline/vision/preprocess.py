"""Turns an image into a network's input, and maps boxes in the input back to the image.

Mapped boxes are always inside the image. The input is identical to that of OpenCV's `blobFromImage`, in a fraction of
the time.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from imgpipeline.vision.decode import DecodedImage, Pixels
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.model import NO_MEAN, NO_STD, ModelSpec


@dataclass(frozen=True, slots=True)
class Placement:
    """The position of a picture in a network's input."""

    scale_xy: tuple[float, float]
    """Input pixels per pixel of the original picture, along x and y."""
    picture_size: tuple[int, int]
    """Width and height of the original picture in pixels."""
    left_top: tuple[int, int] = (0, 0)
    """Input pixels to the left of the picture and above it."""

    def to_picture(self, boxes_xyxy: Floats) -> Floats:
        """Maps boxes from pixels of the input to pixels of the original picture, both float32 [n, 4].

        They are clipped at the picture's border; boxes outside the picture have no area.
        """
        placed = boxes_xyxy - np.array(self.left_top * 2, np.float32) if any(self.left_top) else boxes_xyxy
        boxes = placed / np.array(self.scale_xy * 2, np.float32)
        return np.clip(boxes, 0, np.array(self.picture_size * 2, np.float32)).astype(np.float32, copy=False)

    def to_whole_pixels(self, boxes_xyxy: Floats) -> Floats:
        """Maps boxes, float32 [n, 4], to whole pixels of the picture as the classic OpenCV recipe does.

        Centre, width and height are truncated, and then the corner that follows from them. Boxes may extend beyond the
        picture.
        """
        placed = boxes_xyxy.astype(np.float64) - np.array(self.left_top * 2)
        scale = np.array(self.scale_xy)
        centre = np.trunc((placed[:, :2] + placed[:, 2:]) / 2 / scale)
        size = np.trunc((placed[:, 2:] - placed[:, :2]) / scale)
        corner = np.trunc(centre - size / 2)
        return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def make_blob(picture: Pixels | DecodedImage, spec: ModelSpec, into: Floats | None = None) -> tuple[Floats, Placement]:
    """Turns a picture into a network's input.

    Args:
        picture: uint8 [height, width, 3], BGR; or a decoded image. A reduced image gets the same position in the input
            as the original.
        spec: The model's input size and preprocessing.
        into: An earlier result to overwrite; None: a new array. Allocating its 2 MB takes longer than filling them.

    Returns:
        float32 [1, 3, input height, input width], and the position of the picture in it.
    """
    image = DecodedImage.of(picture)
    pixels, rules = image.pixels, spec.preprocessing
    width, height = spec.network_input.placed_size(image.width, image.height)
    left, top = spec.network_input.placed_at(width, height)
    blob = np.empty((1, 3, spec.input_height, spec.input_width), np.float32) if into is None else into
    channels = cv2.split(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR))
    for plane, channel in zip(blob[0], channels if rules.channels == "BGR" else channels[::-1], strict=True):
        plane[top : top + height, left : left + width] = channel
    if top or left:
        blob[:, :, :top] = rules.pad_value
        blob[:, :, top : top + height, :left] = rules.pad_value
    blob[:, :, top + height :] = rules.pad_value
    blob[:, :, top : top + height, left + width :] = rules.pad_value
    if rules.scale != 1:
        np.multiply(blob, np.float32(rules.scale), out=blob)
    if rules.mean != NO_MEAN or rules.std != NO_STD:
        blob -= np.array(rules.mean, np.float32)[:, None, None]
        blob /= np.array(rules.std, np.float32)[:, None, None]
    # The last pixels of a reduced picture extend up to `reduction - 1` pixels beyond the original's border.
    covered = (pixels.shape[1] * image.reduction, pixels.shape[0] * image.reduction)
    return blob, Placement((width / covered[0], height / covered[1]), (image.width, image.height), (left, top))
