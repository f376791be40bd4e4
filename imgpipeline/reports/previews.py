"""The previews of a report: a few frames of the day with their detections.

The same day always gets the same frames. A preview whose image can no longer be read says so and does not fail the
report.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imgpipeline.contracts.detection import Detection
from imgpipeline.reports.easel import Easel, Picture
from imgpipeline.reports.stored_day import DayQueries

MOST_PREVIEWS = 5
_MOST_BOXES = 60
_LIGHT = 60
"""Mean luma from which on a picture is not dark."""

_BEST = "labels + is_light DESC, labels DESC, least(boxes, 12) DESC, sure DESC, frame_id"
_CHOSEN = f"""
WITH per_frame AS (
    SELECT d.frame_id, d.source, hour(d."timestamp") AS hour, count(DISTINCT label) AS labels, count(*) AS boxes,
           avg(CAST(confidence AS DECIMAL(9, 6))) AS sure,
           CAST(coalesce(any_value(f.brightness) >= {_LIGHT}, false) AS INTEGER) AS is_light
    FROM detections AS d JOIN frames AS f ON f.frame_id = d.frame_id
    WHERE confidence >= {{least}} AND x IS NOT NULL AND d.source_image_path <> '' GROUP BY ALL
), of_hour AS (
    SELECT * FROM per_frame QUALIFY row_number() OVER (PARTITION BY source, hour ORDER BY {_BEST}) = 1
), of_source AS (
    SELECT *, row_number() OVER (PARTITION BY source ORDER BY {_BEST}) AS place FROM of_hour
), chosen AS (
    SELECT frame_id FROM of_source ORDER BY place, {_BEST} LIMIT {MOST_PREVIEWS}
)
SELECT frame_id, source, "timestamp", source_image_path, source_kafka_topic, source_kafka_partition,
       source_kafka_offset, label, class_id, confidence, x, y, width, height
FROM detections SEMI JOIN chosen USING (frame_id) WHERE confidence >= {{least}} AND x IS NOT NULL
ORDER BY "timestamp", frame_id, detection_number
"""  # noqa: S608 - numbers and names of our own
"""The frame with the most different labels of each source first, then the best of other hours. Daylight counts as much
as one more label. Of equal ones those with more boxes come first; twelve count as many as forty: a crowd is no better
picture. Detections of imports have no boxes and no pictures."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One frame that is shown."""

    frame_id: str
    """Names the frame."""
    source: str
    """The camera, video or folder."""
    timestamp: datetime
    """The frame's own time, UTC."""
    image_path: str
    """Where its picture lies."""
    origin: str
    """Topic, partition and offset of its announcement: `frames/0/17`."""
    detections: tuple[Detection, ...]
    """What was found in it, strongest first."""
    picture: Picture
    """Its image with boxes."""

    @property
    def labels(self) -> tuple[tuple[str, int], ...]:
        """The labels with how often they are there, most frequent first."""
        names = [found.label for found in self.detections]
        return tuple(sorted(((name, names.count(name)) for name in set(names)), key=lambda pair: (-pair[1], pair[0])))


def make_previews(
    easel: Easel,
    session: DayQueries,
    *,
    least: float = 0.0,
) -> tuple[Preview, ...]:
    """Chooses frames of a session's day and draws what was found in them.

    Args:
        easel: Draws them.
        session: Opened for that day alone.
        least: Detections with a lower confidence are left out, as in the summaries.

    Returns:
        At most `MOST_PREVIEWS`, in the order of their times.

    Raises:
        TransientError: The store does not answer.
        ForbiddenError: The store refuses everything.
    """
    found: dict[str, list[Sequence[Any]]] = {}
    for row in session.query(_CHOSEN.format(least=float(least))).rows:
        found.setdefault(row[0], []).append(row)
    return tuple(_preview(easel, rows) for rows in found.values())


def _preview(easel: Easel, rows: list[Sequence[Any]]) -> Preview:
    frame_id, source, timestamp, path, topic, partition, offset = rows[0][:7]
    detections = tuple(Detection(row[7], row[8] or 0, row[9], (row[10], row[11], row[12], row[13])) for row in rows)
    picture = easel.draw(path, detections[:_MOST_BOXES])
    return Preview(
        frame_id=frame_id,
        source=source,
        timestamp=timestamp,
        image_path=path,
        origin=f"{topic}/{partition}/{offset}",
        detections=detections,
        picture=picture,
    )
