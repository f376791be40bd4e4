"""Draws the paths of objects on an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from imgpipeline.vision.decode import Pixels

_OUTLINE = (20, 20, 20)
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class DrawnPath:
    """The path of one object."""

    points: Sequence[tuple[float, float]]
    """x and y in pixels of the image, by time."""
    colour: tuple[int, int, int]
    """Blue, green, red, each 0 to 255."""


def draw_paths(pixels: Pixels, paths: Sequence[DrawnPath]) -> Pixels:
    """Draws paths as lines with a dark outline; a dot marks the end of each.

    Args:
        pixels: uint8 [height, width, 3], BGR; not changed.
        paths: What to draw, the topmost first; one without points is left out.

    Returns:
        A new image of the same size.
    """
    canvas = pixels.copy()
    thickness = max(1, round(max(canvas.shape[:2]) / 300))
    for path in reversed(paths):
        if not path.points:
            continue
        fixed = np.round(np.array(path.points) * 2**_SUBPIXEL_BITS).astype(np.int32)
        for colour, width in ((_OUTLINE, thickness + 2), (path.colour, thickness)):
            cv2.polylines(canvas, [fixed], False, colour, width, cv2.LINE_AA, _SUBPIXEL_BITS)
            radius = (thickness + width) << _SUBPIXEL_BITS
            end = (int(fixed[-1][0]), int(fixed[-1][1]))
            cv2.circle(canvas, end, radius, colour, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas
