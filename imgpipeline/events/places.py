"""Counts objects in zones and crossings of lines by hour, and finds the frames that each stored number counts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from imgpipeline.events.configuration import Line, Zone
from imgpipeline.events.geometry import Crossing, find_crossings, objects_in
from imgpipeline.events.reading import read_frames
from imgpipeline.events.values import SeenFrame, SeenObject, in_order

if TYPE_CHECKING:  # only questions about stored numbers need a session
    from imgpipeline.lake.sessions.session import LakeSession

_LONGEST_GAP = timedelta(seconds=60)
"""As the default of rules: an object that is not detected for longer has left."""
_Key = tuple[datetime, str]
"""Hour and label."""
_IN_ZONE = """
SELECT coalesce(sum(occupied_frames), 0), coalesce(sum(detections), 0) FROM zone_occupancy
WHERE day = $day AND zone = $place AND label = $label AND ($hour IS NULL OR hour("hour") = $hour)
"""
_AT_LINE = """
SELECT coalesce(sum(crossings), 0), coalesce(sum(crossings), 0) FROM line_crossings
WHERE day = $day AND line = $place AND label = $label AND direction = $direction
  AND ($hour IS NULL OR hour("hour") = $hour)
"""


def count_in_zone(zone: Zone, frames: Sequence[SeenFrame]) -> list[dict[str, Any]]:
    """Returns the rows of `zone_occupancy` of one zone, by hour and label, in all frames of its source and day."""
    inside = objects_by_frame(zone, frames)
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
    """Returns the rows of `line_crossings` of one line, by hour, label and direction; frames as for `count_in_zone`.

    A crossing belongs to the hour of the first frame on the new side.
    """
    found: dict[tuple[datetime, str, str], list[Crossing]] = defaultdict(list)
    for crossing in find_crossings(line, frames):
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


def objects_by_frame(zone: Zone, frames: Sequence[SeenFrame]) -> list[tuple[SeenFrame, tuple[SeenObject, ...]]]:
    """Returns all frames by time, each with its objects in the zone; arguments as for `count_in_zone`."""
    return [(frame, objects_in(zone, frame.objects, frame.size)) for frame in in_order(frames)]


def _occupied(inside: Sequence[tuple[SeenFrame, Sequence[SeenObject]]]) -> dict[_Key, timedelta]:
    """Returns how long each label was in the zone; a time across the full hour is split between both hours."""
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
    """Splits a time span of less than an hour at the full hour."""
    border = _hour(end)
    if start < border < end:
        yield _hour(start), border - start
        start = border
    yield _hour(start), end - start


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class PlaceNumber:
    """A stored number: the count of one label in a zone or at a line."""

    day: date
    place: Zone | Line
    label: str
    """Class name; for tracked objects, the label of the track."""
    direction: str | None = None
    """Direction of the crossings; None for a zone."""
    hour: int | None = None
    """Hour of the day (UTC), 0 to 23; None: the whole day."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One frame with objects in the zone, or one crossing of the line."""

    frame: SeenFrame
    """The frame; for a crossing, the first one on the new side."""
    before: SeenFrame | None
    """The last frame on the old side; None for a zone."""
    objects: tuple[str, ...]
    """`object_id` of each tracked object, in order."""
    count: int


def find_evidence(lake: "LakeSession", number: PlaceNumber) -> tuple[Evidence, ...]:
    """Returns the frames or crossings that a number counts, by time.

    They include frames that arrived after the counts were built, so they can be more than the stored number until the
    next build.

    Raises:
        PermanentError: A stored table is damaged.
        TransientError: The store does not answer.
    """
    frames = read_frames(
        lake.rows,
        number.day,
        [number.place.source],
        [number.label],
        0,
        with_tracks=True,
        only_detected=True,
    )
    if isinstance(number.place, Zone):
        found = _in_zone(number.place, frames)
    else:
        found = _at_line(number.place, number.direction, frames)
    wanted = (one for one in found if number.hour in (None, one.frame.timestamp.hour))
    return tuple(sorted(wanted, key=lambda one: (one.frame.timestamp, one.frame.frame_id, one.objects)))


def stored_count(lake: "LakeSession", number: PlaceNumber) -> dict[str, int]:
    """Returns the stored number: `frames` with objects in the zone and the sum of their `objects`, or the crossings.

    Both are 0 if nothing was counted. Arguments and errors are those of `find_evidence`.
    """
    given = {"day": number.day, "place": number.place.name, "label": number.label, "hour": number.hour}
    if isinstance(number.place, Zone):
        ((frames, objects),) = lake.query(_IN_ZONE, given).rows
    else:
        ((frames, objects),) = lake.query(_AT_LINE, {**given, "direction": number.direction}).rows
    return {"frames": int(frames), "objects": int(objects)}


def _in_zone(zone: Zone, frames: Sequence[SeenFrame]) -> Iterable[Evidence]:
    for frame, inside in objects_by_frame(zone, frames):
        if inside:
            yield Evidence(frame, None, tuple(each.track_id for each in inside if each.track_id), len(inside))


def _at_line(line: Line, direction: str | None, frames: Sequence[SeenFrame]) -> Iterable[Evidence]:
    for one in find_crossings(line, frames):
        if one.direction == direction:
            yield Evidence(one.after, one.before, (one.track_id,), 1)
