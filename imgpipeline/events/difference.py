"""How much two images differ, and the image of their difference."""

import cv2
import numpy as np

from imgpipeline.vision.decode import Pixels


def difference_norm(image: Pixels, previous: Pixels) -> float:
    """Returns the L2 norm of the difference of all values of all pixels; 0 only for equal images.

    Args:
        image: uint8 [height, width, 3].
        previous: The same size.
    """
    return float(cv2.norm(image, previous, cv2.NORM_L2))


def difference_image(image: Pixels, previous: Pixels) -> Pixels:
    """Returns the difference, stretched so that its least value is 0 and its greatest 255, over all channels together.

    Args:
        image: uint8 [height, width, 3].
        previous: The same size.

    Returns:
        uint8 [height, width, 3]; all 0 where every value differs by the same amount.
    """
    difference = image.astype(np.float32) - previous
    least, greatest = float(difference.min()), float(difference.max())
    if least == greatest:
        return np.zeros_like(image)
    return ((difference - least) / (greatest - least) * 255).astype(np.uint8)
