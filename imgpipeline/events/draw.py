"""Draws the zones and lines of a source on an image."""

from collections.abc import Iterable

import cv2
import numpy as np

from imgpipeline.events.configuration import Line, Zone
from imgpipeline.vision.annotate import class_colour, write_text
from imgpipeline.vision.decode import Pixels

_INK = (0, 0, 0)
_SHADE = 0.25
"""Opacity of the zone's colour."""


def draw_places(pixels: Pixels, places: Iterable[Zone | Line]) -> Pixels:
    """Draws zones as shaded polygons, and lines with an arrow in their forward direction, on a copy of a BGR image."""
    canvas = pixels.copy()
    thickness = max(1, round(max(canvas.shape[:2]) / 300))
    for number, place in enumerate(places):
        corners = np.array(place.fractions) * (canvas.shape[1], canvas.shape[0])
        colour = class_colour(number)
        if isinstance(place, Line):
            _draw_line(canvas, place, corners, colour, thickness)
        else:
            _draw_zone(canvas, place, corners, colour, thickness)
    return canvas


def _draw_zone(canvas: Pixels, zone: Zone, corners: np.ndarray, colour: tuple[int, int, int], thickness: int) -> None:
    outline = corners.round().astype(np.int32)
    shaded = canvas.copy()
    cv2.fillPoly(shaded, [outline], colour)
    cv2.addWeighted(shaded, _SHADE, canvas, 1 - _SHADE, 0, dst=canvas)
    cv2.polylines(canvas, [outline], isClosed=True, color=colour, thickness=thickness)
    left, top = outline.min(axis=0)
    write_text(canvas, zone.name, (int(left) + thickness, int(top) + 16), ink=_INK, ground=colour)


def _draw_line(canvas: Pixels, line: Line, corners: np.ndarray, colour: tuple[int, int, int], thickness: int) -> None:
    start, end = corners
    cv2.line(canvas, _pixel(start), _pixel(end), colour, thickness)
    middle, along = (start + end) / 2, end - start
    # Rotated 90 degrees to the right as seen on the image, whose y axis points down.
    across = np.array([-along[1], along[0]]) / max(1.0, float(np.hypot(*along)))
    tip = middle + across * max(canvas.shape[:2]) / 15
    cv2.arrowedLine(canvas, _pixel(middle), _pixel(tip), colour, thickness, tipLength=0.3)
    write_text(canvas, f"{line.name}: {line.forward}", _pixel(middle + np.array([6, -6])), ink=_INK, ground=colour)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
