"""From an image to a network's input, and from boxes in the input back to the image.

Boxes always lie inside the image. The input is bit for bit that of OpenCV's `blobFromImage`, in a fraction of its time.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from imgpipeline.vision.decode import DecodedImage, Pixels
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.model import NO_MEAN, NO_STD, ModelSpec


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in a network's input."""

    scale_xy: tuple[float, float]
    """Input pixels a pixel of the original picture, along x and y."""
    picture_size: tuple[int, int]
    """Width and height of the original picture in pixels."""
    left_top: tuple[int, int] = (0, 0)
    """Input pixels left of the picture and above it."""

    def to_picture(self, boxes_xyxy: Floats) -> Floats:
        """Maps boxes to the picture and cuts them at its border.

        Args:
            boxes_xyxy: float32 [n, 4] in pixels of the input.

        Returns:
            float32 [n, 4] in pixels of the original picture, inside of it; those that lay outside have no area.
        """
        placed = boxes_xyxy - np.array(self.left_top * 2, np.float32) if any(self.left_top) else boxes_xyxy
        boxes = placed / np.array(self.scale_xy * 2, np.float32)
        return np.clip(boxes, 0, np.array(self.picture_size * 2, np.float32)).astype(np.float32, copy=False)

    def to_whole_pixels(self, boxes_xyxy: Floats) -> Floats:
        """Maps boxes to the picture as the classic OpenCV recipe does.

        Centre, width and height are cut to whole pixels, then the corner that follows from them.

        Args:
            boxes_xyxy: float32 [n, 4] in pixels of the input.

        Returns:
            float32 [n, 4] whole pixels of the original picture; may reach outside of it.
        """
        placed = boxes_xyxy.astype(np.float64) - np.array(self.left_top * 2)
        scale = np.array(self.scale_xy)
        centre = np.trunc((placed[:, :2] + placed[:, 2:]) / 2 / scale)
        size = np.trunc((placed[:, 2:] - placed[:, :2]) / scale)
        corner = np.trunc(centre - size / 2)
        return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def make_blob(picture: Pixels | DecodedImage, spec: ModelSpec, into: Floats | None = None) -> tuple[Floats, Placement]:
    """Makes a network's input of a picture.

    Args:
        picture: uint8 [height, width, 3], BGR; or a decoded image, which may be reduced: it lies in the input where
            the original would.
        spec: The model's input size and preprocessing.
        into: An earlier result that is written over; None: a new array. New memory of 2 MB costs more than filling it.

    Returns:
        float32 [1, 3, input height, input width], and where the picture lies in it.
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
    # A reduced picture ends where its last pixel does, up to `reduction - 1` pixels behind the original's border.
    covered = (pixels.shape[1] * image.reduction, pixels.shape[0] * image.reduction)
    return blob, Placement((width / covered[0], height / covered[1]), (image.width, image.height), (left, top))
