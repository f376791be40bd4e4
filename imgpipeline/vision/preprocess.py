"""From a picture to a network's input, and back from the input's pixels to the picture's.

Owns both directions, so that they cannot disagree. Promises that boxes that leave here lie inside the picture.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from imgpipeline.vision.decode import Pixels
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.model import ModelSpec


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in a network's input."""

    scale_xy: tuple[float, float]
    """Input pixels a picture pixel, along x and y."""
    picture_size: tuple[int, int]
    """Width and height of the picture in pixels."""

    def to_picture(self, boxes_xyxy: Floats) -> Floats:
        """Maps boxes to the picture and cuts them at its border.

        Args:
            boxes_xyxy: float32 [n, 4] in pixels of the input.

        Returns:
            float32 [n, 4] in pixels of the picture, inside of it; those that lay outside have no area.
        """
        boxes = boxes_xyxy / np.array(self.scale_xy * 2, np.float32)
        return np.clip(boxes, 0, np.array(self.picture_size * 2, np.float32)).astype(np.float32, copy=False)


def make_blob(pixels: Pixels, spec: ModelSpec) -> tuple[Floats, Placement]:
    """Makes a network's input of a picture.

    Args:
        pixels: uint8 [height, width, 3], BGR.
        spec: The model's input size and preprocessing.

    Returns:
        float32 [1, 3, input height, input width], and where the picture lies in it.
    """
    height, width = pixels.shape[:2]
    target = (spec.input_width, spec.input_height)
    rules = spec.preprocessing
    if rules.resize == "letterbox":
        ratio = min(target[0] / width, target[1] / height)
        size = (max(1, int(width * ratio)), max(1, int(height * ratio)))
        canvas = np.full((target[1], target[0], 3), rules.pad_value, np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    else:
        size = target
        canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    blob = cv2.dnn.blobFromImage(canvas, rules.scale, swapRB=rules.channels == "RGB")
    placement = Placement((size[0] / width, size[1] / height), (width, height))
    return np.asarray(blob, np.float32), placement
