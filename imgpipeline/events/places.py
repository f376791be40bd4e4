"""Counts what stands in a zone and what crosses a line, by hour, and says in which frames. All functions are pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from imgpipeline.events.configuration import Line, Zone
from imgpipeline.events.crossings import Crossing, find_crossings
from imgpipeline.events.geometry import objects_in
from imgpipeline.events.values import SeenFrame, SeenObject, in_order

_LONGEST_GAP = timedelta(seconds=60)
"""The default of the rules: what was going on ends with a longer pause."""
_Key = tuple[datetime, str]
"""Hour and label."""


def count_in_zone(zone: Zone, frames: Sequence[SeenFrame]) -> list[dict[str, Any]]:
    """Returns the rows of `zone_occupancy` of one zone, by hour and label.

    Args:
        zone: The zone.
        frames: All processed frames of its source and day, in any order.
    """
    inside = standing_in(zone, frames)
    all_frames = Counter(_hour(frame.timestamp) for frame, _ in inside)
    at_once: dict[_Key, list[int]] = defaultdict(list)
    tracked: dict[_Key, set[str]] = defaultdict(set)
    for frame, objects in inside:
        hour = _hour(frame.timestamp)
        for label, number in Counter(each.label for each in objects).items():
            at_once[hour, label].append(number)
        for each in objects:
            if each.track_id is not None:
                tracked[hour, each.label].add(each.track_id)
    occupied = _occupied(inside)
    return [
        {
            "hour": hour,
            "source": zone.source,
            "zone": zone.name,
            "label": label,
            "frames": all_frames[hour],
            "occupied_frames": len(numbers),
            "detections": sum(numbers),
            "most_at_once": max(numbers),
            "objects": len(tracked[hour, label]),
            "occupied_s": occupied[hour, label].total_seconds(),
        }
        for (hour, label), numbers in sorted(at_once.items())
    ]


def count_crossings(line: Line, frames: Sequence[SeenFrame]) -> list[dict[str, Any]]:
    """Returns the rows of `line_crossings` of one line, by hour, label and direction.

    Args:
        line: The line.
        frames: All processed frames of its source and day, in any order.
    """
    found: dict[tuple[datetime, str, str], list[Crossing]] = defaultdict(list)
    for crossing in crossings_of(line, frames):
        found[_hour(crossing.after.timestamp), crossing.label, crossing.direction].append(crossing)
    return [
        {
            "hour": hour,
            "source": line.source,
            "line": line.name,
            "label": label,
            "direction": direction,
            "crossings": len(crossings),
            "objects": len({crossing.track_id for crossing in crossings}),
        }
        for (hour, label, direction), crossings in sorted(found.items())
    ]


def standing_in(zone: Zone, frames: Sequence[SeenFrame]) -> list[tuple[SeenFrame, tuple[SeenObject, ...]]]:
    """Returns all frames by time, each with what stands in the zone; arguments as `count_in_zone`."""
    return [(frame, objects_in(zone, frame.objects, frame.size)) for frame in in_order(frames)]


def crossings_of(line: Line, frames: Sequence[SeenFrame]) -> list[Crossing]:
    """Returns the crossings that are counted, by object and time; arguments as `count_crossings`.

    A crossing belongs to the hour of its frame after.
    """
    return list(find_crossings(line, in_order(frames), longest_gap=_LONGEST_GAP))


def _occupied(inside: Sequence[tuple[SeenFrame, Sequence[SeenObject]]]) -> dict[_Key, timedelta]:
    """Returns how long each label was in the zone; a time over the full hour counts in both hours."""
    occupied: dict[_Key, timedelta] = defaultdict(timedelta)
    for (before, objects_before), (after, objects_after) in pairwise(inside):
        if after.timestamp - before.timestamp > _LONGEST_GAP:
            continue
        labels = {each.label for each in objects_before} & {each.label for each in objects_after}
        for hour, duration in _by_hour(before.timestamp, after.timestamp):
            for label in labels:
                occupied[hour, label] += duration
    return occupied


def _by_hour(start: datetime, end: datetime) -> Iterator[tuple[datetime, timedelta]]:
    """Yields the parts of a time span of less than an hour that lie in each hour."""
    border = _hour(end)
    if start < border < end:
        yield _hour(start), border - start
        start = border
    yield _hour(start), end - start


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
