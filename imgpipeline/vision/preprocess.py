"""From a picture to a network's input, and back from the input's pixels to the picture's.

Owns both directions, so that they cannot disagree. Promises that boxes that leave here lie inside the picture.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from imgpipeline.vision.decode import DecodedImage, Pixels
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.model import ModelSpec


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in a network's input."""

    scale_xy: tuple[float, float]
    """Input pixels a pixel of the original picture, along x and y."""
    picture_size: tuple[int, int]
    """Width and height of the original picture in pixels."""

    def to_picture(self, boxes_xyxy: Floats) -> Floats:
        """Maps boxes to the picture and cuts them at its border.

        Args:
            boxes_xyxy: float32 [n, 4] in pixels of the input.

        Returns:
            float32 [n, 4] in pixels of the original picture, inside of it; those that lay outside have no area.
        """
        boxes = boxes_xyxy / np.array(self.scale_xy * 2, np.float32)
        return np.clip(boxes, 0, np.array(self.picture_size * 2, np.float32)).astype(np.float32, copy=False)


def make_blob(picture: Pixels | DecodedImage, spec: ModelSpec) -> tuple[Floats, Placement]:
    """Makes a network's input of a picture.

    Args:
        picture: uint8 [height, width, 3], BGR; or a decoded image, which may be reduced: it lies in the input where
            the original would.
        spec: The model's input size and preprocessing.

    Returns:
        float32 [1, 3, input height, input width], and where the picture lies in it.
    """
    image = DecodedImage.of(picture)
    pixels, target, rules = image.pixels, (spec.input_width, spec.input_height), spec.preprocessing
    size = spec.network_input.placed_size(image.width, image.height)
    if rules.resize == "letterbox":
        canvas = np.full((target[1], target[0], 3), rules.pad_value, np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    else:
        canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    blob = cv2.dnn.blobFromImage(canvas, rules.scale, swapRB=rules.channels == "RGB")
    # A reduced picture ends where its last pixel does, up to `reduction - 1` pixels behind the original's border.
    covered = (pixels.shape[1] * image.reduction, pixels.shape[0] * image.reduction)
    placement = Placement((size[0] / covered[0], size[1] / covered[1]), (image.width, image.height))
    return np.asarray(blob, np.float32), placement
