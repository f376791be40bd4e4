"""Writes tracks in the CSV formats of classic trackers: statistics, tracks and detections of one video or sequence.

Unlike those programs, each video has its own tracker, numbers identify unique objects, and boxes are true corners.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from imgpipeline.contracts.detection import Kind
from imgpipeline.lake.storage.engine import quoted

_NAMED = """(SELECT day, frame_id, coalesce(attributes ->> '$.video_id', source) AS video,
                     coalesce(attributes ->> '$.frame_id', printf('frame_%05d', frame_number), frame_id) AS frame
              FROM frames)"""
_FRAME = ("frame_id", "video_id", "timestamp")
DETECTION_COLUMNS = (*_FRAME, "label", "confidence", "x1", "y1", "x2", "y2")
TRACK_COLUMNS = (*_FRAME, "track_id", "x1", "y1", "x2", "y2", "confidence", "class_id")
Rows = list[tuple[Any, ...]]
Ask = Callable[[str], Rows]
"""Runs one query."""


def statistics(ask: Ask, source: str, day: date, *, least_s: float) -> tuple[tuple[str, ...], Rows]:
    """Returns the number of unique cars and people up to each frame of a video or sequence on a UTC day.

    As in `unique_totals`, objects that were seen for less than `least_s` seconds do not count.
    """
    kinds = " ".join(f"WHEN label IN {_labels(kind)} THEN '{kind}'" for kind in Kind)
    counts = ", ".join(
        f"CAST(coalesce(sum(fresh) FILTER (kind = '{kind}') OVER (ORDER BY shown_at), 0) AS BIGINT) AS num_{kind}"
        for kind in Kind
    )
    rows = ask(
        f"""
        WITH labels AS (SELECT object_id, first(label ORDER BY points DESC, label) AS label
                        FROM (SELECT object_id, label, sum(points) AS points FROM tracks
                              WHERE source = {quoted(source)} AND day = DATE '{day}' GROUP BY ALL) GROUP BY ALL),
             begun AS (SELECT object_id, CASE {kinds} END AS kind, min(first_seen) AS shown_at
                       FROM (SELECT object_id, first_seen, last_seen FROM tracks WHERE day = DATE '{day}')
                       JOIN labels USING (object_id) GROUP BY ALL
                       HAVING epoch_us(max(last_seen)) - epoch_us(min(first_seen)) >= {least_s * 1e6}),
             changes AS (SELECT shown_at, kind, count(*) AS fresh FROM begun GROUP BY ALL
                         UNION ALL
                         SELECT DISTINCT "timestamp", NULL, 0 FROM frames
                         WHERE source = {quoted(source)} AND day = DATE '{day}' AND status = 'processed')
        SELECT DISTINCT shown_at, {counts} FROM changes ORDER BY shown_at"""  # noqa: S608 - quoted
    )
    return ("timestamp", "num_cars", "num_people"), [(_naive(row[0]), *row[1:]) for row in rows]


def tracks(ask: Ask, source: str, day: date, kind: Kind) -> tuple[tuple[str, ...], Rows]:
    """Returns the classic rows of tracks: one per point, objects numbered from 1 in order of appearance."""
    rows = ask(
        f"""
        WITH chosen AS (SELECT track_id, object_id, first_seen FROM tracks
                        WHERE source = {quoted(source)} AND day = DATE '{day}' AND label IN {_labels(kind)}),
             numbered AS (SELECT object_id, row_number() OVER (ORDER BY min(first_seen), object_id) AS "number"
                          FROM chosen GROUP BY object_id)
        SELECT frame, video, p."timestamp", "number", round(x, 2), round(y, 2), round(x + width, 2),
               round(y + height, 2), p.confidence, 0
        FROM track_points AS p JOIN chosen USING (track_id) JOIN numbered USING (object_id)
        JOIN {_NAMED} USING (day, frame_id)
        ORDER BY p."timestamp", "number\""""  # noqa: S608 - quoted
    )
    return TRACK_COLUMNS, [(*row[:2], _naive(row[2]), *row[3:]) for row in rows]


def detections(ask: Ask, source: str, day: date, kind: Kind) -> tuple[tuple[str, ...], Rows]:
    """Returns the classic rows of detections, with corners in whole pixels; arguments as for `tracks`."""
    rows = ask(
        f"""
        SELECT frame, video, "timestamp", label, confidence, CAST(floor(x) AS INTEGER),
               CAST(floor(y) AS INTEGER), CAST(floor(x + width) AS INTEGER), CAST(floor(y + height) AS INTEGER)
        FROM detections JOIN {_NAMED} USING (day, frame_id)
        WHERE source = {quoted(source)} AND day = DATE '{day}' AND label IN {_labels(kind)}
        ORDER BY "timestamp", frame_id, detection_number"""  # noqa: S608 - quoted
    )
    return DETECTION_COLUMNS, [(*row[:2], _naive(row[2]), *row[3:]) for row in rows]


def _labels(kind: Kind) -> str:
    return f"({', '.join(map(quoted, kind.labels))})"


def _naive(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat()
