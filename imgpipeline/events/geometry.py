"""Where an object stands: its foot point, whether that lies in a zone, and on which side of a line.

Points are in pixels of the image, y downwards.
"""

import math
from collections.abc import Iterable, Sequence

from imgpipeline.events.configuration import Point, Zone
from imgpipeline.events.values import SeenObject

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels; may reach beyond the image."""


def foot_point(box_xywh: Box, size: tuple[int, int]) -> Point | None:
    """Returns the middle of the lower edge of the part of a box that lies in the image.

    Args:
        box_xywh: The box.
        size: Width and height of the image.

    Returns:
        The point; None if nothing of the box lies in the image.
    """
    left, top, width, height = box_xywh
    right, bottom = min(left + width, size[0]), min(top + height, size[1])
    left, top = max(left, 0.0), max(top, 0.0)
    if right < left or bottom < top:
        return None
    return (left + right) / 2, bottom


def is_inside(point: Point, corners: Sequence[Point]) -> bool:
    """Tells whether a point lies in a polygon, or on its edge.

    Counts how many edges a ray to the right crosses (even-odd rule), so crossing polygons have holes.
    """
    inside = False
    for start, end in zip(corners, (*corners[1:], corners[0]), strict=True):
        if _is_on(point, start, end):
            return True
        if (start[1] > point[1]) != (end[1] > point[1]):
            at = start[0] + (point[1] - start[1]) * (end[0] - start[0]) / (end[1] - start[1])
            inside ^= at > point[0]
    return inside


def objects_in(zone: Zone, objects: Iterable[SeenObject], size: tuple[int, int]) -> tuple[SeenObject, ...]:
    """Returns the objects that stand in a zone.

    Args:
        zone: The zone.
        objects: What was found in an image.
        size: Width and height of the image.
    """
    corners = [(x * size[0], y * size[1]) for x, y in zone.fractions]
    feet = ((each, foot_point(each.box_xywh, size) if each.box_xywh else None) for each in objects)
    return tuple(each for each, foot in feet if foot and is_inside(foot, corners))


def distance_from_line(point: Point, start: Point, end: Point) -> float:
    """Returns the distance of a point from the infinite line through two points, in pixels.

    Positive on the right side, as seen from the first point; on an image, that is below a line drawn to the right.
    """
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    length = math.hypot(along_x, along_y)
    return (along_x * (point[1] - start[1]) - along_y * (point[0] - start[0])) / length


def segments_meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Tells whether the segment from a to b and the one from c to d have a point in common."""
    turns = _turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)
    if turns[0] != turns[1] and turns[2] != turns[3]:
        return True
    ends = ((c, a, b), (d, a, b), (a, c, d), (b, c, d))
    return any(turn == 0 and _is_on(*end) for turn, end in zip(turns, ends, strict=True))


def _turn(a: Point, b: Point, c: Point) -> int:
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return (area > 0) - (area < 0)


def _is_on(point: Point, start: Point, end: Point) -> bool:
    if _turn(start, end, point) != 0:
        return False
    (x, y), (x1, y1), (x2, y2) = point, start, end
    return min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2)
