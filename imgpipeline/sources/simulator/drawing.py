"""Draws a street, and the objects on it: person, bicycle, car and dog.

An object is drawn into its own patch, together with its mask, anti-aliased and placed to a fraction of a pixel. Unit
coordinates go from 0 to 1 from left to right and from top to bottom; the object faces right.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

OVERSAMPLING = 3
"""Patches are drawn larger by this factor and then reduced, for smooth edges and motion by fractions of a pixel."""
FRACTION_BITS = 4
"""OpenCV draws with integer coordinates that have this many fractional bits."""

Color = tuple[int, int, int]
Point = tuple[float, float]


def random_color(rng: np.random.Generator, low: int, high: int) -> Color:
    """Returns a random BGR colour with values in `[low, high)`."""
    blue, green, red = (int(v) for v in rng.integers(low, high, 3))
    return blue, green, red


@dataclass(frozen=True, slots=True)
class Look:
    """The colours of one object, all BGR 0..255."""

    main: Color
    dark: Color
    skin: Color
    hair: Color
    fur: Color


@dataclass(frozen=True, slots=True)
class SpritePlacement:
    """Position of an object in its patch."""

    patch_wh: tuple[int, int]
    offset_xy: tuple[float, float]
    """Top left corner of the object in the patch in px."""
    size_wh: tuple[float, float]
    faces_left: bool


class Sprite:
    """A patch and its mask; every stroke goes into both."""

    def __init__(self, placement: SpritePlacement) -> None:
        width, height = placement.patch_wh
        shape = (height * OVERSAMPLING, width * OVERSAMPLING)
        self._placement = placement
        self._image = np.zeros((*shape, 3), np.uint8)
        self._mask = np.zeros(shape, np.uint8)

    def polygon(self, color: Color, *corners: Point) -> None:
        """Fills a polygon given by its corners."""
        points = np.array([self._pixel(corner) for corner in corners], np.int32)
        for target, value in self._targets(color):
            cv2.fillPoly(target, [points], color=value, shift=FRACTION_BITS)

    def line(self, color: Color, a: Point, b: Point, thickness: float) -> None:
        """Draws a line; the thickness is relative to the object's height."""
        for target, value in self._targets(color):
            cv2.line(target, self._pixel(a), self._pixel(b), value, self._width(thickness), shift=FRACTION_BITS)

    def disc(self, color: Color, centre: Point, radius: float, thickness: float | None = None) -> None:
        """Draws a disc, or a ring if a thickness is given; both are relative to the object's height."""
        length = int(radius * self._placement.size_wh[1] * OVERSAMPLING * 2**FRACTION_BITS)
        width = -1 if thickness is None else self._width(thickness)
        for target, value in self._targets(color):
            cv2.circle(target, self._pixel(centre), length, value, width, shift=FRACTION_BITS)

    def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Reduces the drawing to the patch's size.

        Returns:
            Colours [height, width, 3] uint8, multiplied by the mask, and the mask [height, width] uint8, where 255 is
            fully covered.
        """
        size = self._placement.patch_wh
        reduced = [cv2.resize(v, size, interpolation=cv2.INTER_AREA) for v in (self._image, self._mask)]
        return reduced[0].astype(np.uint8, copy=False), reduced[1].astype(np.uint8, copy=False)

    def _targets(self, color: Color) -> tuple[tuple[NDArray[np.uint8], Color], ...]:
        return (self._image, color), (self._mask, (255, 255, 255))

    def _pixel(self, point: Point) -> tuple[int, int]:
        place, scale = self._placement, OVERSAMPLING * 2**FRACTION_BITS
        x = 1 - point[0] if place.faces_left else point[0]
        left, top = place.offset_xy
        width, height = place.size_wh
        return round((left + x * width) * scale), round((top + point[1] * height) * scale)

    def _width(self, thickness: float) -> int:
        return max(1, round(thickness * self._placement.size_wh[1] * OVERSAMPLING))


def shade(color: Color, factor: float) -> Color:
    """Returns a darker colour (factor below 1)."""
    return int(color[0] * factor), int(color[1] * factor), int(color[2] * factor)


def draw_person(sprite: Sprite, look: Look, phase: float) -> None:
    """Draws a walking person; legs and arms swing with the phase (radians)."""
    swing = 0.34 * float(np.sin(phase))
    for dx, factor in ((-swing, 0.8), (swing, 1.0)):
        sprite.line(shade(look.dark, factor), (0.5, 0.55), (0.5 + dx, 0.95), 0.09)
    sprite.line(shade(look.main, 0.8), (0.5, 0.26), (0.5 + 0.9 * swing, 0.52), 0.07)
    sprite.polygon(look.main, (0.27, 0.2), (0.73, 0.2), (0.68, 0.58), (0.32, 0.58))
    sprite.line(shade(look.main, 0.9), (0.5, 0.26), (0.5 - 0.9 * swing, 0.52), 0.07)
    sprite.disc(look.skin, (0.5, 0.1), 0.085)
    sprite.polygon(look.hair, (0.3, 0.09), (0.36, 0.02), (0.64, 0.02), (0.7, 0.09))


def draw_bicycle(sprite: Sprite, look: Look, phase: float) -> None:
    """Draws a bicycle; its spokes turn with the phase (radians)."""
    radius, tyre, black = 0.29, (25, 25, 25), (20, 20, 20)
    for x in (0.2, 0.8):
        sprite.disc(tyre, (x, 0.68), radius, 0.05)
        for angle in (phase, phase + np.pi / 2):
            dx, dy = float(np.cos(angle)) * radius / 1.62, float(np.sin(angle)) * radius
            sprite.line((150, 150, 150), (x - dx, 0.68 - dy), (x + dx, 0.68 + dy), 0.015)
    rear, pedals, saddle, bar, front = (0.2, 0.68), (0.46, 0.7), (0.38, 0.22), (0.68, 0.2), (0.8, 0.68)
    tubes = ((rear, pedals), (rear, saddle), (pedals, saddle), (pedals, bar), (saddle, bar), (bar, front))
    for a, b in tubes:
        sprite.line(look.main, a, b, 0.07)
    sprite.line(black, (0.3, 0.2), (0.46, 0.2), 0.08)
    sprite.line(black, (0.66, 0.1), (0.76, 0.1), 0.07)
    sprite.line(black, (0.68, 0.2), (0.7, 0.1), 0.05)


def draw_car(sprite: Sprite, look: Look, phase: float) -> None:  # noqa: ARG001 - wheels look the same in any phase
    """Draws a car from the side."""
    glass = (215, 195, 165)
    roof = ((0.2, 0.42), (0.32, 0.08), (0.7, 0.08), (0.82, 0.42))
    sprite.polygon(look.main, (0.02, 0.5), *roof, (0.98, 0.52), (0.99, 0.8), (0.01, 0.8))
    sprite.polygon(glass, (0.26, 0.42), (0.35, 0.15), (0.5, 0.15), (0.5, 0.42))
    sprite.polygon(glass, (0.54, 0.42), (0.54, 0.15), (0.67, 0.15), (0.76, 0.42))
    sprite.polygon((120, 240, 255), (0.94, 0.54), (0.99, 0.56), (0.99, 0.64), (0.94, 0.62))
    sprite.polygon((40, 40, 220), (0.01, 0.54), (0.05, 0.54), (0.05, 0.66), (0.01, 0.66))
    for x in (0.22, 0.78):
        sprite.disc((25, 25, 25), (x, 0.79), 0.2)
        sprite.disc((170, 170, 170), (x, 0.79), 0.1)


def draw_dog(sprite: Sprite, look: Look, phase: float) -> None:
    """Draws a running dog; its legs swing with the phase (radians)."""
    swing = 0.1 * float(np.sin(phase))
    for x, dx, factor in ((0.25, -swing, 0.75), (0.68, swing, 0.75), (0.22, swing, 1.0), (0.65, -swing, 1.0)):
        sprite.line(shade(look.fur, factor), (x, 0.6), (x + dx, 0.94), 0.1)
    sprite.line(look.fur, (0.16, 0.42), (0.04, 0.12), 0.09)
    sprite.polygon(look.fur, (0.12, 0.38), (0.72, 0.36), (0.76, 0.66), (0.14, 0.68))
    muzzle = ((0.88, 0.1), (0.99, 0.24), (0.97, 0.34), (0.8, 0.38))
    sprite.polygon(look.fur, (0.64, 0.4), (0.72, 0.1), *muzzle, (0.76, 0.55))
    sprite.polygon(shade(look.fur, 0.6), (0.7, 0.1), (0.78, 0.12), (0.74, 0.34), (0.68, 0.3))
    sprite.disc((15, 15, 15), (0.97, 0.25), 0.045)


DRAWINGS: dict[str, Callable[[Sprite, Look, float], None]] = {
    "person": draw_person,
    "bicycle": draw_bicycle,
    "car": draw_car,
    "dog": draw_dog,
}


WIDTH, HEIGHT = 640, 360
HORIZON_Y = 150
"""Top of the pavement in px."""

Image = NDArray[np.uint8]


def draw_street(rng: np.random.Generator, clutter: int = 1) -> Image:
    """Draws a street in daylight, without objects: sky, houses, pavement, road and street furniture.

    Args:
        clutter: Factor on the usual amount of street furniture, >= 0.

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
    """Draws pavement, road and markings, and returns the upper edge of the road in px."""
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
    """Draws a tree, a lamp, a bin or a sign on the far pavement. A detector must not take it for an object."""
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
