"""Which frames make up a number of `zone_occupancy` or `line_crossings`: the functions that counted it, asked again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from imgpipeline.events.configuration import Line, Zone
from imgpipeline.events.places import crossings_of, standing_in
from imgpipeline.events.seen_frames import read_frames
from imgpipeline.events.values import SeenFrame
from imgpipeline.lake.sessions.session import LakeSession

_ONE_DAY = """
WITH detections AS (SELECT * FROM detections WHERE day = DATE '{day}'),
     tracks AS (SELECT * FROM tracks WHERE day = DATE '{day}'),
     track_points AS (SELECT * FROM track_points WHERE day = DATE '{day}'),
     frames AS (SELECT * FROM frames WHERE day = DATE '{day}' AND frame_id IN (SELECT frame_id FROM detections))
"""
_IN_ZONE = """
SELECT coalesce(sum(occupied_frames), 0), coalesce(sum(detections), 0) FROM zone_occupancy
WHERE day = $day AND zone = $place AND label = $label AND ($hour IS NULL OR hour("hour") = $hour)
"""
_AT_LINE = """
SELECT coalesce(sum(crossings), 0), coalesce(sum(crossings), 0) FROM line_crossings
WHERE day = $day AND line = $place AND label = $label AND direction = $direction
  AND ($hour IS NULL OR hour("hour") = $hour)
"""


@dataclass(frozen=True, slots=True)
class PlaceNumber:
    """One number: what was counted in a zone, or at a line, of one label."""

    day: date
    """UTC day."""
    place: Zone | Line
    """Where."""
    label: str
    """Class name; that of the track for tracked objects."""
    direction: str | None = None
    """In which direction the line was crossed; None for a zone."""
    hour: int | None = None
    """Hour of the day (UTC), 0 to 23; None: the whole day."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One frame with something in the zone, or one crossing of the line."""

    frame: SeenFrame
    """The frame; of a crossing, the first one on the new side."""
    before: SeenFrame | None
    """The last frame on the old side; None in a zone."""
    objects: tuple[str, ...]
    """`object_id` of each tracked object that counts, in order."""
    count: int
    """How many objects count."""


@dataclass(frozen=True, slots=True)
class PlaceCount:
    """A number as it was counted."""

    shown: int
    """Frames with something in the zone (`occupied_frames`), or `crossings`."""
    objects: int
    """Objects in these frames, added up (`detections`), or `crossings`."""


def find_evidence(lake: LakeSession, number: PlaceNumber) -> tuple[Evidence, ...]:
    """Returns what makes up a number, by time.

    Frames that came after the day's counts were built are among them, so their number can be larger than the stored one
    until the next build.

    Args:
        lake: The session.
        number: The number.

    Raises:
        PermanentError: A stored table is damaged.
        TransientError: The store does not answer.
    """
    frames = read_frames(_OneDay(lake, number.day), [number.place.source], [number.label], 0, with_tracks=True)
    if isinstance(number.place, Zone):
        found = _in_zone(number.place, frames)
    else:
        found = _at_line(number.place, number.direction, frames)
    wanted = (one for one in found if number.hour in (None, one.frame.timestamp.hour))
    return tuple(sorted(wanted, key=lambda one: (one.frame.timestamp, one.frame.frame_id, one.objects)))


def stored_count(lake: LakeSession, number: PlaceNumber) -> PlaceCount:
    """Returns a number as it is stored; 0 if nothing was counted. Arguments and errors as `find_evidence`."""
    given = {"day": number.day, "place": number.place.name, "label": number.label, "hour": number.hour}
    if isinstance(number.place, Zone):
        ((shown, objects),) = lake.query(_IN_ZONE, given).rows
    else:
        ((shown, objects),) = lake.query(_AT_LINE, {**given, "direction": number.direction}).rows
    return PlaceCount(int(shown), int(objects))


def _in_zone(zone: Zone, frames: Sequence[SeenFrame]) -> Iterable[Evidence]:
    for frame, inside in standing_in(zone, frames):
        if inside:
            yield Evidence(frame, None, tuple(each.track_id for each in inside if each.track_id), len(inside))


def _at_line(line: Line, direction: str | None, frames: Sequence[SeenFrame]) -> Iterable[Evidence]:
    for one in crossings_of(line, frames):
        if one.direction == direction:
            yield Evidence(one.after, one.before, (one.track_id,), 1)


@dataclass(frozen=True, slots=True)
class _OneDay:
    """A session's tables of one day; without frames in which nothing was found, which count nothing."""

    lake: LakeSession
    day: date

    def run(self, sql: str, parameters: Sequence[object] = (), /) -> Iterable[tuple[Any, ...]]:
        return self.lake.query(_ONE_DAY.format(day=self.day) + sql, parameters).rows
