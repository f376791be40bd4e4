"""The previews of a report: a few frames of the day with their detections.

The same day always gets the same frames. A preview whose image can no longer be read says so and does not fail the
report.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, DeadLetterCode, ImageDeletedError
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.reports.palette import Colour
from imgpipeline.reports.stored_day import DayQueries
from imgpipeline.settings import Settings
from imgpipeline.vision.previews import draw_preview, read_pixels

MOST_PREVIEWS = 5
_LONGEST_SIDE_PX = 720
_MOST_JPEG_BYTES = 60_000
_MOST_BOXES = 60
_LIGHT = 60
"""Mean luma from which on a picture is not dark."""
_REASONS = {
    DeadLetterCode.OBJECT_NOT_FOUND: "The image is no longer in the store.",
    DeadLetterCode.OBJECT_FORBIDDEN: "The store refuses access to the image.",
    DeadLetterCode.PATH_NOT_ALLOWED: "The pipeline may not read the location of the image.",
}

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
    jpeg_base64: str | None
    """The picture with boxes; None if it cannot be shown."""
    missing: str | None
    """Why it cannot be shown; None if it can."""

    @property
    def labels(self) -> tuple[tuple[str, int], ...]:
        """The labels with how often they are there, most frequent first."""
        names = [found.label for found in self.detections]
        return tuple(sorted(((name, names.count(name)) for name in set(names)), key=lambda pair: (-pair[1], pair[0])))


def make_previews(
    store: ObjectStore,
    settings: Settings,
    session: DayQueries,
    colour_of: Callable[[str], Colour],
    *,
    least: float = 0.0,
) -> tuple[Preview, ...]:
    """Chooses frames of a session's day and draws what was found in them.

    Args:
        store: The object store.
        settings: Which pictures may be read, and how large they may be.
        session: Opened for that day alone.
        colour_of: Colour of a label.
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
    easel = _Easel(ImageReader(store, settings), colour_of)
    return tuple(_preview(easel, rows) for rows in found.values())


def _preview(easel: "_Easel", rows: list[Sequence[Any]]) -> Preview:
    frame_id, source, timestamp, path, topic, partition, offset = rows[0][:7]
    detections = tuple(Detection(row[7], row[8] or 0, row[9], (row[10], row[11], row[12], row[13])) for row in rows)
    encoded, missing = easel.draw(path, detections[:_MOST_BOXES])
    return Preview(
        frame_id=frame_id,
        source=source,
        timestamp=timestamp,
        image_path=path,
        origin=f"{topic}/{partition}/{offset}",
        detections=detections,
        jpeg_base64=base64.b64encode(encoded).decode() if encoded else None,
        missing=missing,
    )


@dataclass(frozen=True, slots=True)
class _Easel:
    """Draws previews."""

    reader: ImageReader
    colour_of: Callable[[str], Colour]

    def draw(self, path: str, detections: Sequence[Detection]) -> tuple[bytes | None, str | None]:
        """Returns the preview, or why there is none."""
        try:
            pixels = read_pixels(self.reader, path)
        except ImageDeletedError as error:
            return None, error.message
        except BadInputError as error:
            return None, _REASONS.get(error.code, f"The image can no longer be shown ({error.code.value}).")
        drawn = draw_preview(
            pixels,
            detections,
            max_side=_LONGEST_SIDE_PX,
            most_bytes=_MOST_JPEG_BYTES,
            colour_of=lambda found: self.colour_of(found.label),
        )
        return drawn, None
