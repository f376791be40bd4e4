"""Measures the brightness and sharpness of an image, in about a millisecond for 1280x720.

Sharpness has one scale whatever the camera's resolution: the image is halved until no side is longer than 640 pixels.
If the JPEG decoder did the halving (`decode_image` with `reduced_for`), brightness differs by less than 0.3 and
sharpness by less than 2 %.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from imgpipeline.vision.decode import DecodedImage, Pixels
from imgpipeline.vision.reduction import measured_reduction


@dataclass(frozen=True, slots=True)
class Quality:
    """Two figures about one picture."""

    brightness: float
    """Mean luma (ITU-R BT.601), 0 to 255."""
    sharpness: float
    """Variance of the Laplacian of the luma, >= 0, on the picture halved until no side is longer than 640 pixels."""


def measure_quality(picture: Pixels | DecodedImage) -> Quality:
    """Measures brightness and sharpness.

    Args:
        picture: uint8 [height, width, 3], BGR; or a decoded image, which may be reduced.

    Returns:
        Both figures; equal pictures give equal figures.
    """
    image = DecodedImage.of(picture)
    factor = measured_reduction(image.width, image.height) // image.reduction
    luma = cv2.cvtColor(_reduce(image.pixels, factor), cv2.COLOR_BGR2GRAY)
    edges = cv2.Laplacian(luma, cv2.CV_16S)
    # Sums of whole numbers are exact, and several times faster than cv2.meanStdDev.
    squares, mean = cv2.norm(edges, cv2.NORM_L2SQR) / edges.size, cv2.sumElems(edges)[0] / edges.size
    return Quality(cv2.mean(luma)[0], squares - mean**2)


def _reduce(pixels: Pixels, factor: int) -> Pixels:
    """Averages squares of pixels; the rest at the right and at the bottom is left out."""
    if factor <= 1:
        return pixels
    height, width = pixels.shape[:2]
    size = (max(1, width // factor), max(1, height // factor))
    whole = pixels[: size[1] * factor, : size[0] * factor]
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)
