"""The tracks that pass through a frame, and the different objects of a day."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

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


_OBJECTS = """
WITH labels AS (
    SELECT object_id, first(label ORDER BY points DESC, label) AS label
    FROM (SELECT object_id, label, sum(points) AS points FROM tracks WHERE day = $day GROUP BY object_id, label)
    GROUP BY object_id
)
SELECT object_id, any_value(source) AS source, labels.label, min(first_seen) AS first_seen, max(last_seen) AS last_seen,
       (epoch_us(max(last_seen)) - epoch_us(min(first_seen))) / 1e6 AS stay_s,
       count(*) AS tracks, CAST(sum(points) AS BIGINT) AS points,
       arg_max(best_frame_id, points) AS best_frame_id
FROM tracks JOIN labels USING (object_id) WHERE day = $day
GROUP BY object_id, labels.label
HAVING stay_s >= $least_s AND ($source IS NULL OR any_value(source) = $source)
       AND ($label IS NULL OR labels.label = $label)
ORDER BY first_seen, object_id
"""


def seen_objects(
    lake: LakeSession, day: date, *, source: str | None = None, label: str | None = None, least_s: float
) -> pa.Table:
    """Returns the different objects of a day, which `unique_totals` counts, by the time when they were first seen.

    There are none while the day has no tracks.

    Args:
        day: UTC day.
        source: Only objects of this source.
        label: Only objects with this label for most of their detections.
        least_s: Only objects that were seen for at least this many seconds (the setting `unique_min_s`).

    Returns:
        The columns `object_id`, `source`, `label`, `first_seen`, `last_seen`, `stay_s`, `tracks` (number), `points`
        (detections), `best_frame_id`.

    Raises:
        PermanentError: A stored table is damaged.
        TransientError: The store does not answer.
    """
    return lake.arrow(_OBJECTS, {"day": day, "source": source, "label": label, "least_s": least_s})
