"""The number of a simulated frame, drawn into its upper left corner so that it survives lossy compression.

Sixteen bits and four check bits, each a cell of 12x8 pixels, white for 1 and black for 0. What a receiver decoded can
then be compared with the truth of that very frame.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
CODES = 2**16
"""Numbers start again after so many."""
_CELL_W, _CELL_H, _BITS = 12, 8, 20


def draw_number(image: Image, number: int) -> Image:
    """Returns a copy of [height, width, 3] uint8 BGR pixels with the number in its corner."""
    marked = image.copy()
    code = _with_check(number % CODES)
    for bit in range(_BITS):
        shade = 255 if code >> bit & 1 else 0
        left = bit * _CELL_W
        cv2.rectangle(marked, (left, 0), (left + _CELL_W - 1, _CELL_H - 1), (shade,) * 3, -1)
    return marked


def read_number(image: Image) -> int | None:
    """Returns the number in the corner of a picture; None if there is none that can be read."""
    if image.shape[0] < _CELL_H or image.shape[1] < _BITS * _CELL_W:
        return None
    strip = image[2 : _CELL_H - 2, : _BITS * _CELL_W].mean(axis=(0, 2))
    cells = strip.reshape(_BITS, _CELL_W)[:, 3:-3].mean(axis=1)
    code = sum(int(cell > 127) << bit for bit, cell in enumerate(cells))
    number = code % CODES
    return number if _with_check(number) == code else None


def _with_check(number: int) -> int:
    check = sum(number >> shift & 15 for shift in (0, 4, 8, 12)) ^ 0b1010
    return number | (check & 15) << 16
