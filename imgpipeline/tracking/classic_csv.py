"""Writes tracks in the CSV formats of classic trackers: statistics, tracks and detections of one video or sequence.

Unlike those programs, each video has its own tracker, numbers identify unique objects, and boxes are true corners.
Times have no offset, as in their files.
"""

from datetime import date

from imgpipeline.contracts.detection import Kind
from imgpipeline.lake.sessions.session import Answer, LakeSession
from imgpipeline.tracking.unique import OBJECTS, least_seen_s

_FRAME = ("frame_id", "video_id", "timestamp")
DETECTION_COLUMNS = (*_FRAME, "label", "confidence", "x1", "y1", "x2", "y2")
TRACK_COLUMNS = (*_FRAME, "track_id", "x1", "y1", "x2", "y2", "confidence", "class_id")
_NAMED = """(
    SELECT day, frame_id, coalesce(attributes ->> '$.video_id', source) AS video,
           coalesce(attributes ->> '$.frame_id', printf('frame_%05d', frame_number), frame_id) AS frame FROM frames)"""
_STATISTICS = f"""
WITH changes AS (
    SELECT first_seen AS shown_at, list_contains($cars, label) AS is_car, list_contains($people, label) AS is_person
    FROM ({OBJECTS})
    UNION ALL
    SELECT "timestamp", false, false FROM frames
    WHERE source = $source AND day = $day AND status = 'processed' AND $least_s IS NOT NULL
)
SELECT DISTINCT shown_at AT TIME ZONE 'UTC' AS "timestamp",
       count(*) FILTER (is_car) OVER (ORDER BY shown_at) AS num_cars,
       count(*) FILTER (is_person) OVER (ORDER BY shown_at) AS num_people
FROM changes ORDER BY ALL"""  # noqa: S608 - own SQL
_TRACKS = f"""
WITH chosen AS (
    SELECT track_id, object_id, first_seen FROM tracks
    WHERE source = $source AND day = $day AND list_contains($labels, label)
),
numbered AS (
    SELECT object_id, row_number() OVER (ORDER BY min(first_seen), object_id) AS "number" FROM chosen GROUP BY object_id
)
SELECT frame, video, p."timestamp" AT TIME ZONE 'UTC', "number", round(x, 2), round(y, 2), round(x + width, 2),
       round(y + height, 2), p.confidence, 0
FROM track_points AS p JOIN chosen USING (track_id) JOIN numbered USING (object_id) JOIN {_NAMED} USING (day, frame_id)
ORDER BY p."timestamp", "number\""""  # noqa: S608 - own SQL
_DETECTIONS = f"""
SELECT frame, video, "timestamp" AT TIME ZONE 'UTC', label, confidence, CAST(floor(x) AS INTEGER),
       CAST(floor(y) AS INTEGER), CAST(floor(x + width) AS INTEGER), CAST(floor(y + height) AS INTEGER)
FROM detections JOIN {_NAMED} USING (day, frame_id)
WHERE source = $source AND day = $day AND list_contains($labels, label)
ORDER BY "timestamp", frame_id, detection_number"""  # noqa: S608 - own SQL


def statistics(session: LakeSession, source: str, day: date) -> Answer:
    """Returns the number of unique cars and people up to each frame of a video or sequence on a UTC day.

    As in `unique_totals`, objects that were seen for too short a time do not count. A day without tracks has no rows.
    """
    labels = {kind.value: kind.labels for kind in Kind}
    return session.query(_STATISTICS, {"source": source, "day": day, "least_s": least_seen_s(session, day), **labels})


def tracks(session: LakeSession, source: str, day: date, kind: Kind) -> Answer:
    """Returns the classic rows of tracks: one per point, objects numbered from 1 in order of appearance."""
    found = session.query(_TRACKS, {"source": source, "day": day, "labels": kind.labels})
    return Answer(TRACK_COLUMNS, found.rows)


def detections(session: LakeSession, source: str, day: date, kind: Kind) -> Answer:
    """Returns the classic rows of detections, with corners in whole pixels; arguments as for `tracks`."""
    found = session.query(_DETECTIONS, {"source": source, "day": day, "labels": kind.labels})
    return Answer(DETECTION_COLUMNS, found.rows)
