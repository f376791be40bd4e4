"""Crossings of a line by tracked objects, with hysteresis: jitter of a box at the line is not a crossing."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from imgpipeline.events.configuration import Line, Point
from imgpipeline.events.geometry import distance_from_line, foot_point, segments_meet
from imgpipeline.events.values import SeenFrame, SeenObject


@dataclass(frozen=True, slots=True)
class Crossing:
    """One object crossed a line once."""

    track_id: str
    """The object."""
    label: str
    """Its label in the frame after."""
    direction: str
    """The line's name for it."""
    before: SeenFrame
    """The last frame in which it was clearly on the old side."""
    after: SeenFrame
    """The first frame in which it was clearly on the new side."""


@dataclass(frozen=True, slots=True)
class _Step:
    """Where an object was clearly on one side of the line."""

    frame: SeenFrame
    foot: Point
    """As a fraction of the image."""
    is_right: bool


def find_crossings(line: Line, frames: Sequence[SeenFrame], *, longest_gap: timedelta) -> Iterator[Crossing]:
    """Yields the crossings of a line, by object and time.

    The foot point of an object has to get from more than the line's margin on one side to more than that on the other,
    on a way that meets the line between its two points. Objects without a track cannot cross.

    Args:
        line: The line.
        frames: Frames of the line's source, by time.
        longest_gap: After a longer pause between two detections of an object, its side is unknown.
    """
    tracks: dict[str, list[tuple[SeenFrame, SeenObject]]] = defaultdict(list)
    for frame in frames:
        for each in frame.objects:
            if each.track_id is not None:
                tracks[each.track_id].append((frame, each))
    for track_id, points in sorted(tracks.items()):
        yield from _crossings_of(track_id, line, points, longest_gap)


def _crossings_of(
    track_id: str, line: Line, points: Iterable[tuple[SeenFrame, SeenObject]], longest_gap: timedelta
) -> Iterator[Crossing]:
    clear: _Step | None = None
    before: SeenFrame | None = None
    for frame, each in points:
        if before and frame.timestamp - before.timestamp > longest_gap:
            clear = None
        before = frame
        step = _step(line, frame, each)
        if step is None:
            continue
        if clear and clear.is_right != step.is_right and segments_meet(clear.foot, step.foot, *line.fractions):
            direction = line.forward if step.is_right else line.backward
            yield Crossing(track_id, each.label, direction, clear.frame, frame)
        clear = step


def _step(line: Line, frame: SeenFrame, each: SeenObject) -> _Step | None:
    """Returns where an object is; None if that is too near to the line, or outside the image."""
    width, height = frame.size
    foot = foot_point(each.box_xywh, frame.size) if each.box_xywh else None
    if foot is None:
        return None
    start, end = ((x * width, y * height) for x, y in line.fractions)
    distance = distance_from_line(foot, start, end)
    if distance == 0 or abs(distance) < line.margin * height:
        return None
    return _Step(frame, (foot[0] / width, foot[1] / height), distance > 0)
