"""Draws the street without its objects: sky, houses, pavement, road and street furniture. A scene's frames share it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from imgpipeline.sources.simulator.sprites import random_color

WIDTH, HEIGHT = 640, 360
HORIZON_Y = 150
"""Top of the pavement in px."""

Image = NDArray[np.uint8]


def draw_street(rng: np.random.Generator, clutter: int = 1) -> Image:
    """Draws a street in daylight.

    Args:
        rng: Source of randomness.
        clutter: Times as many things stand around as usual, >= 0.

    Returns:
        [360, 640, 3] uint8 BGR.
    """
    sky = np.linspace(random_color(rng, 150, 240), random_color(rng, 120, 220), HEIGHT)
    image = np.repeat(sky[:, None], WIDTH, axis=1).astype(np.uint8)
    _draw_houses(image, rng)
    road_top = _draw_road(image, rng)
    for _ in range(clutter * int(rng.integers(3, 7))):
        _draw_thing(image, rng, road_top)
    patches = cv2.resize(rng.normal(0, 7, (HEIGHT // 4, WIDTH // 4)).astype(np.float32), (WIDTH, HEIGHT))
    grain = patches[..., None] + rng.normal(0, 4, (HEIGHT, WIDTH, 1))
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _draw_houses(image: Image, rng: np.random.Generator) -> None:
    x = 0
    while x < WIDTH:
        width, top = int(rng.integers(60, 140)), int(rng.integers(20, 100))
        cv2.rectangle(image, (x, top), (x + width, HORIZON_Y), random_color(rng, 80, 200), -1)
        pane = random_color(rng, 50, 230)
        for left in range(x + 10, x + width - 16, 26):
            for upper in range(top + 10, HORIZON_Y - 24, 32):
                cv2.rectangle(image, (left, upper), (left + 12, upper + 18), pane, -1)
        x += width + int(rng.integers(0, 40))


def _draw_road(image: Image, rng: np.random.Generator) -> int:
    """Draws pavement, road and markings; returns the upper edge of the road in px."""
    pavement, road = int(rng.integers(110, 180)), int(rng.integers(60, 115))
    top, bottom = HORIZON_Y + int(rng.integers(25, 45)), HEIGHT - int(rng.integers(20, 45))
    cv2.rectangle(image, (0, HORIZON_Y), (WIDTH, HEIGHT), (pavement,) * 3, -1)
    cv2.rectangle(image, (0, top), (WIDTH, bottom), (road,) * 3, -1)
    for y in (top, bottom):
        cv2.line(image, (0, y), (WIDTH, y), (pavement + 50,) * 3, 3)
    middle = (top + bottom) // 2
    for x in range(int(rng.integers(0, 60)), WIDTH, 70):
        cv2.rectangle(image, (x, middle), (x + 36, middle + 4), (215, 215, 215), -1)
    return top


def _draw_thing(image: Image, rng: np.random.Generator, road_top: int) -> None:
    """Draws a tree, a lamp, a bin or a sign on the far pavement, which a detector must not take for objects."""
    x, y, size = (
        int(rng.integers(0, WIDTH)),
        int(rng.integers(HORIZON_Y, road_top)),
        int(rng.integers(20, 50)),
    )
    kind = ("tree", "lamp", "bin", "sign")[rng.integers(4)]
    if kind == "tree":
        cv2.rectangle(image, (x - 3, y - 2 * size), (x + 3, y), (40, 60, 90), -1)
        cv2.circle(image, (x, y - 2 * size), size // 2 + 6, (40, int(rng.integers(80, 150)), 50), -1)
    elif kind == "lamp":
        cv2.line(image, (x, y), (x, y - 3 * size), (60, 60, 60), 3)
        cv2.circle(image, (x, y - 3 * size), 6, (200, 235, 245), -1)
    elif kind == "bin":
        cv2.rectangle(image, (x, y - size), (x + size // 2, y), random_color(rng, 30, 160), -1)
    else:
        cv2.line(image, (x, y), (x, y - 2 * size), (110, 110, 110), 2)
        cv2.circle(image, (x, y - 2 * size), 9, random_color(rng, 60, 230), -1)
