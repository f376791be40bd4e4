"""Reads the number that the simulator draws into the corner of each picture, as `rtsp_simulator` describes it."""

import numpy as np

WIDTH, HEIGHT, BITS = 12, 8, 20


def read_number(image: np.ndarray) -> int | None:
    """Returns the number in the corner of [height, width, 3] pixels; None if it cannot be read."""
    if image.shape[0] < HEIGHT or image.shape[1] < BITS * WIDTH:
        return None
    strip = image[2 : HEIGHT - 2, : BITS * WIDTH].mean(axis=(0, 2))
    cells = strip.reshape(BITS, WIDTH)[:, 3:-3].mean(axis=1)
    code = sum(int(cell > 127) << bit for bit, cell in enumerate(cells))
    number, check = code & 0xFFFF, code >> 16
    digits = (number >> shift & 15 for shift in (0, 4, 8, 12))
    return number if check == (sum(digits) ^ 0b1010) & 15 else None
