"""The geometry of rules: foot points of objects, objects in a zone, and crossings of a line by tracked objects.

Points are in pixels of the image, y downwards.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from imgpipeline.events.configuration import Line, Point, Zone
from imgpipeline.events.values import SeenFrame, SeenObject, in_order

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels; may extend beyond the image."""


def foot_point(box_xywh: Box, size: tuple[int, int]) -> Point | None:
    """Returns the middle of the lower edge of the part of a box that is inside an image of this width and height."""
    left, top, width, height = box_xywh
    right, bottom = min(left + width, size[0]), min(top + height, size[1])
    left, top = max(left, 0.0), max(top, 0.0)
    if right < left or bottom < top:
        return None
    return (left + right) / 2, bottom


def is_inside(point: Point, corners: Sequence[Point]) -> bool:
    """Tells whether a point is inside a polygon or on its edge.

    Counts the edges that a ray to the right crosses (even-odd rule), so self-intersecting polygons have holes.
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
    """Returns the objects of an image of this width and height whose foot point is in a zone."""
    corners = [(x * size[0], y * size[1]) for x, y in zone.fractions]
    feet = ((each, foot_point(each.box_xywh, size) if each.box_xywh else None) for each in objects)
    return tuple(each for each, foot in feet if foot and is_inside(foot, corners))


def distance_from_line(point: Point, start: Point, end: Point) -> float:
    """Returns the distance of a point from the infinite line through two points, in pixels.

    Positive on the right side, as seen from the first point: below a line that is drawn from left to right.
    """
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    length = math.hypot(along_x, along_y)
    return (along_x * (point[1] - start[1]) - along_y * (point[0] - start[0])) / length


def segments_meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Tells whether the segments from a to b and from c to d have a point in common."""
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


@dataclass(frozen=True, slots=True)
class Crossing:
    """One crossing of a line by an object."""

    track_id: str
    label: str
    """Its label in the frame after the crossing."""
    direction: str
    """Name of the direction in the line's configuration."""
    before: SeenFrame
    """The last frame in which the object was clearly on the old side."""
    after: SeenFrame
    """The first frame in which the object was clearly on the new side."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A frame in which an object is clearly on one side of the line."""

    frame: SeenFrame
    foot: Point
    """As a fraction of the image."""
    is_right: bool


def find_crossings(line: Line, frames: Sequence[SeenFrame]) -> Iterator[Crossing]:
    """Yields the crossings of a line, by object and time.

    The foot point of a tracked object must move from beyond the margin on one side to beyond the margin on the other
    side, and cross the line between its two points. With the margin, a box that jitters at the line does not cross it.
    An object that is hidden at the line crosses it as long as it stays the same object. `frames` are those of the
    line's source.
    """
    tracks: dict[str, list[tuple[SeenFrame, SeenObject]]] = defaultdict(list)
    for frame in in_order(frames):
        for each in frame.objects:
            if each.track_id is not None:
                tracks[each.track_id].append((frame, each))
    for track_id, points in sorted(tracks.items()):
        yield from _crossings_of(track_id, line, points)


def _crossings_of(track_id: str, line: Line, points: Iterable[tuple[SeenFrame, SeenObject]]) -> Iterator[Crossing]:
    clear: _Step | None = None
    for frame, each in points:
        step = _step(line, frame, each)
        if step is None:
            continue
        if clear and clear.is_right != step.is_right and segments_meet(clear.foot, step.foot, *line.fractions):
            direction = line.forward if step.is_right else line.backward
            yield Crossing(track_id, each.label, direction, clear.frame, frame)
        clear = step


def _step(line: Line, frame: SeenFrame, each: SeenObject) -> _Step | None:
    """Returns the side of an object; None if it is within the margin or outside the image."""
    width, height = frame.size
    foot = foot_point(each.box_xywh, frame.size) if each.box_xywh else None
    if foot is None:
        return None
    start, end = ((x * width, y * height) for x, y in line.fractions)
    distance = distance_from_line(foot, start, end)
    if distance == 0 or abs(distance) < line.margin * height:
        return None
    return _Step(frame, (foot[0] / width, foot[1] / height), distance > 0)
