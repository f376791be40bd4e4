"""Draws the images of a page: frames with their boxes, and the longest tracks. The same tables give the same images."""

import base64
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, DeadLetterCode, ImageDeletedError
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.objectstore import ImageReader
from imgpipeline.reports.charts import Colour
from imgpipeline.reports.figures import DayHours
from imgpipeline.vision.annotate import DrawnPath, draw_paths, draw_preview, read_pixels

_LARGE = (720, 60_000)
"""Longest side in pixels, and size limit of the JPEG file in bytes."""
_SMALL = (480, 25_000)
_NO_IMAGE = "The frame was imported without an image."
_REASONS = {
    DeadLetterCode.OBJECT_NOT_FOUND: "The image is no longer in the store.",
    DeadLetterCode.OBJECT_FORBIDDEN: "The store refuses access to the image.",
    DeadLetterCode.PATH_NOT_ALLOWED: "The pipeline may not read the location of the image.",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a page."""

    jpeg_base64: str | None = None
    """The image with its drawings; None if it cannot be shown."""
    missing: str | None = None
    """Why it cannot be shown; None if it can."""


@dataclass(frozen=True, slots=True)
class Easel:
    """Draws the images of a page."""

    reader: ImageReader
    colour_of: Callable[[str], Colour]

    def draw(
        self, path: str, detections: Sequence[Detection], paths: Sequence[DrawnPath] = (), *, is_small: bool = False
    ) -> Picture:
        """Draws paths, and detections above them, on a stored image; both are in pixels of the image.

        Raises:
            TransientError: The store does not answer.
            ForbiddenError: The store denies access.
        """
        if not path:
            return Picture(missing=_NO_IMAGE)
        try:
            pixels = read_pixels(self.reader, path)
        except ImageDeletedError as error:
            return Picture(missing=error.message)
        except BadInputError as error:
            said = _REASONS.get(error.code, f"The image can no longer be shown ({error.code.value}).")
            return Picture(missing=said)
        side_px, size_bytes = _SMALL if is_small else _LARGE
        drawn = draw_preview(
            draw_paths(pixels, paths) if paths else pixels,
            detections,
            max_side=side_px,
            most_bytes=size_bytes,
            colour_of=lambda found: self.colour_of(found.label),
        )
        return Picture(base64.b64encode(drawn).decode())


MOST_PREVIEWS = 5
_MOST_BOXES = 60
_LIGHT = 60
"""Mean luma of the darkest image that counts as light."""

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
"""The best frame of each source first, then the best frames of its other hours. The best frame has the most different
labels, where light counts as one more, then the most boxes; boxes beyond the twelfth do not count. Imported
detections without boxes are left out."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One frame with its detections."""

    frame_id: str
    source: str
    timestamp: datetime
    image_path: str
    origin: str
    """Topic, partition and offset of its announcement: `frames/0/17`."""
    detections: tuple[Detection, ...]
    """Its detections, in the order of `detection_number`."""
    picture: Picture

    @property
    def labels(self) -> tuple[tuple[str, int], ...]:
        """Labels with their number of detections, the most frequent first."""
        names = [found.label for found in self.detections]
        return tuple(sorted(((name, names.count(name)) for name in set(names)), key=lambda pair: (-pair[1], pair[0])))


def make_previews(
    easel: Easel,
    session: LakeSession,
    *,
    least: float = 0.0,
) -> tuple[Preview, ...]:
    """Chooses frames of a day and draws their detections that the summaries count: at least `least` confident.

    Raises:
        TransientError: The store does not answer.
        ForbiddenError: The store denies access.
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


_MOST_SOURCES = 4
_MOST_OBJECTS = 8
"""Objects whose paths are drawn on one image."""
_POINTS = 30
"""Points that are drawn of each track, approximately."""
_LONGEST = f"""
WITH whole AS (
    SELECT source, unique_id, min(first_seen) AS first_seen, max(last_seen) AS last_seen,
           first(struct_pack(track_id, label, best_frame_id, best_detection_number)
                 ORDER BY points DESC, track_id) AS best
    FROM tracks WHERE {{within}} GROUP BY source, unique_id
), placed AS (
    SELECT *, count(*) OVER (PARTITION BY source) AS objects,
           row_number() OVER (PARTITION BY source ORDER BY last_seen - first_seen DESC, unique_id) AS place
    FROM whole
), chosen AS (
    SELECT source FROM placed GROUP BY source ORDER BY max(objects) DESC, source LIMIT {_MOST_SOURCES}
)
SELECT p.source, p.unique_id, p.best.track_id, p.best.label, p.first_seen, p.last_seen, p.objects,
       f.source_image_path, d.class_id, d.confidence, d.x, d.y, d.width, d.height
FROM placed AS p SEMI JOIN chosen ON chosen.source = p.source
LEFT JOIN frames AS f ON f.frame_id = p.best.best_frame_id
LEFT JOIN detections AS d ON d.frame_id = f.frame_id AND d.detection_number = p.best.best_detection_number
WHERE p.place <= {_MOST_OBJECTS} ORDER BY p.objects DESC, p.source, p.place
"""  # noqa: S608 - numbers and names of our own
_PATHS = f"""
WITH numbered AS (
    SELECT t.unique_id, t.track_id, p.x + p.width / 2 AS x, p.y + p.height AS y,
           row_number() OVER (PARTITION BY t.track_id ORDER BY p."timestamp", p.frame_id) AS number,
           count(*) OVER (PARTITION BY t.track_id) AS points
    FROM tracks AS t JOIN track_points AS p ON p.track_id = t.track_id WHERE t.unique_id IN ({{objects}})
)
SELECT unique_id, track_id, x, y FROM numbered
WHERE number = points OR (number - 1) % greatest(1, points // {_POINTS}) = 0 ORDER BY track_id, number
"""  # noqa: S608 - numbers and names of our own
"""A path consists of foot points: the middle of the lower edge of each box is where the object touches the ground."""


@dataclass(frozen=True, slots=True)
class LongestObject:
    """One of the objects that stayed longest at a source."""

    unique_id: str
    track_id: str
    """Its track with the most points."""
    label: str
    first_seen: datetime
    last_seen: datetime

    @property
    def stay_s(self) -> float:
        """Seconds between the first and the last detection."""
        return (self.last_seen - self.first_seen).total_seconds()


@dataclass(frozen=True, slots=True)
class TrackPicture:
    """The longest tracks of one source."""

    source: str
    objects: int
    """Tracked objects of the source on the day, including the shortest."""
    shown: tuple[LongestObject, ...]
    """The objects that are drawn, the longest stay first."""
    picture: Picture
    """The largest and sharpest image of the first object, with its box and the paths of all objects."""


def make_track_pictures(easel: Easel, session: LakeSession, clock: DayHours) -> tuple[TrackPicture, ...]:
    """Draws the longest tracks of the sources with the most objects.

    Returns:
        A picture for each of at most four sources.

    Raises:
        PermanentError: This machine lacks the memory or disk space.
        TransientError: The store does not answer.
        ForbiddenError: The store denies access.
    """
    by_source: dict[str, list[Sequence[Any]]] = defaultdict(list)
    for row in session.query(_LONGEST.format(within=clock.condition("first_seen"))).rows:
        by_source[row[0]].append(row)
    paths = _paths(session, [row[1] for rows in by_source.values() for row in rows])
    return tuple(_picture(easel, source, rows, paths) for source, rows in by_source.items())


def _paths(session: LakeSession, objects: Iterable[str]) -> dict[str, list[list[tuple[float, float]]]]:
    """Returns the points of each track of some objects; two tracks of one object are not connected."""
    names = ", ".join(quoted(name) for name in objects)
    if not names:
        return {}
    tracks: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for unique_id, track_id, x, y in session.query(_PATHS.format(objects=names)).rows:
        tracks[unique_id, track_id].append((x, y))
    found: dict[str, list[list[tuple[float, float]]]] = defaultdict(list)
    for (unique_id, _), points in tracks.items():
        found[unique_id].append(points)
    return found


def _picture(
    easel: Easel,
    source: str,
    rows: Sequence[Sequence[Any]],
    paths: dict[str, list[list[tuple[float, float]]]],
) -> TrackPicture:
    shown = tuple(LongestObject(*row[1:6]) for row in rows)
    objects, image_path, class_id, confidence, *box = rows[0][6:]
    detections = [Detection(shown[0].label, class_id or 0, confidence, tuple(box))] if confidence is not None else []
    drawn = [DrawnPath(points, easel.colour_of(one.label)) for one in shown for points in paths.get(one.unique_id, ())]
    return TrackPicture(source, objects, shown, easel.draw(image_path or "", detections, drawn))
