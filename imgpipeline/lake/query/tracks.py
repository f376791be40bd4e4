"""The tracks that pass through a frame."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from imgpipeline.lake.sessions.session import LakeSession

MOST_POINTS = 400
"""A longer path keeps only every second, third or later point."""
_TRACKS = """
WITH here AS (SELECT track_id, detection_number FROM track_points WHERE day = $day AND frame_id = $frame_id)
SELECT track.track_id, track.object_id, track.label, here.detection_number, track.first_seen, track.last_seen,
       track.points, list((point.x + point.width / 2, point.y + point.height) ORDER BY point."timestamp")
FROM here
JOIN tracks AS track ON track.day = $day AND track.track_id = here.track_id
JOIN track_points AS point ON point.day = $day AND point.track_id = here.track_id
GROUP BY ALL ORDER BY here.detection_number
"""


@dataclass(frozen=True, slots=True)
class FrameTrack:
    """One track through a frame, with the frame's detection."""

    track_id: str
    object_id: str
    """First track of the same object on the day, joined over slices."""
    label: str
    """The label with the most confidence over the track."""
    detection_number: int
    """The detection of the frame, from 0."""
    first_seen: datetime
    """Time of its first point, UTC."""
    last_seen: datetime
    """Time of its last point, UTC."""
    points: int
    way: tuple[tuple[float, float], ...]
    """Foot points in time order, x and y in pixels of the original image; at most `MOST_POINTS`."""


def tracks_of_frame(lake: LakeSession, day: date, frame_id: str) -> tuple[FrameTrack, ...]:
    """Returns the tracks through a frame by detection number; empty while the day has no tracks.

    Raises:
        PermanentError: A stored table is damaged.
        TransientError: The store does not answer.
    """
    rows = lake.query(_TRACKS, {"day": day, "frame_id": frame_id}).rows
    return tuple(
        FrameTrack(track_id, object_id, label, number, first, last, points, _thinned(way))
        for track_id, object_id, label, number, first, last, points, way in rows
    )


def _thinned(way: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    return tuple(way[:: math.ceil(len(way) / MOST_POINTS)])
