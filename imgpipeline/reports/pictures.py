"""Draws the images of a page: frames with their boxes, and the longest tracks. The same tables give the same images."""

import base64
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, DeadLetterCode, ImageDeletedError
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.objectstore import ImageReader
from imgpipeline.reports.figures import DayHours, Row, read_rows
from imgpipeline.vision.annotate import DrawnPath, draw_paths, draw_preview, read_pixels

Colour = tuple[int, int, int]
"""Blue, green, red, each 0 to 255."""
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
SELECT frame_id, source, "timestamp", source_image_path,
       source_kafka_topic || '/' || source_kafka_partition || '/' || source_kafka_offset AS origin,
       label, class_id, confidence, x, y, width, height
FROM detections SEMI JOIN chosen USING (frame_id) WHERE confidence >= {{least}} AND x IS NOT NULL
ORDER BY "timestamp", frame_id, detection_number
"""  # noqa: S608 - numbers and names of our own
"""The best frame of each source first, then the best frames of its other hours. The best frame has the most different
labels, where light counts as one more, then the most boxes; boxes beyond the twelfth do not count. Imported
detections without boxes are left out."""


def make_previews(easel: Easel, session: LakeSession, *, least: float = 0.0) -> tuple[Row, ...]:
    """Chooses frames of a day and draws their detections that the summaries count: at least `least` confident.

    Returns:
        The row of each frame with its `picture`, and with `labels`: the number of detections of each, the most frequent
        first.

    Raises:
        TransientError: The store does not answer.
        ForbiddenError: The store denies access.
    """
    found: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(session, _CHOSEN.format(least=float(least))):
        found[row["frame_id"]].append(row)
    previews = []
    for rows in found.values():
        labels = Counter(sorted(row["label"] for row in rows)).most_common()
        detections = [Detection.of_row(row) for row in rows[:_MOST_BOXES]]
        picture = easel.draw(rows[0]["source_image_path"], detections)
        previews.append({**rows[0], "labels": labels, "picture": picture})
    return tuple(previews)


_MOST_SOURCES = 4
_MOST_OBJECTS = 8
"""Objects whose paths are drawn on one image."""
_POINTS = 30
"""Points that are drawn of each track, approximately."""
_LONGEST = f"""
WITH whole AS (
    SELECT source, object_id, min(first_seen) AS first_seen, max(last_seen) AS last_seen,
           first(struct_pack(track_id, label, best_frame_id, best_detection_number)
                 ORDER BY points DESC, track_id) AS best
    FROM tracks WHERE {{within}} GROUP BY source, object_id
), placed AS (
    SELECT *, count(*) OVER (PARTITION BY source) AS objects,
           row_number() OVER (PARTITION BY source ORDER BY last_seen - first_seen DESC, object_id) AS place
    FROM whole
), chosen AS (
    SELECT source FROM placed GROUP BY source ORDER BY max(objects) DESC, source LIMIT {_MOST_SOURCES}
)
SELECT p.source, p.object_id, p.best.track_id AS track_id, p.best.label AS label, p.first_seen, p.objects,
       (epoch_us(p.last_seen) - epoch_us(p.first_seen)) / 1e6 AS stay_s,
       f.source_image_path, d.class_id, d.confidence, d.x, d.y, d.width, d.height
FROM placed AS p SEMI JOIN chosen ON chosen.source = p.source
LEFT JOIN frames AS f ON f.frame_id = p.best.best_frame_id
LEFT JOIN detections AS d ON d.frame_id = f.frame_id AND d.detection_number = p.best.best_detection_number
WHERE p.place <= {_MOST_OBJECTS} ORDER BY p.objects DESC, p.source, p.place
"""  # noqa: S608 - numbers and names of our own
_PATHS = f"""
WITH numbered AS (
    SELECT t.object_id, t.track_id, p.x + p.width / 2 AS x, p.y + p.height AS y,
           row_number() OVER (PARTITION BY t.track_id ORDER BY p."timestamp", p.frame_id) AS number,
           count(*) OVER (PARTITION BY t.track_id) AS points
    FROM tracks AS t JOIN track_points AS p ON p.track_id = t.track_id WHERE t.object_id IN ({{objects}})
)
SELECT object_id, track_id, x, y FROM numbered
WHERE number = points OR (number - 1) % greatest(1, points // {_POINTS}) = 0 ORDER BY track_id, number
"""  # noqa: S608 - numbers and names of our own
"""A path consists of foot points: the middle of the lower edge of each box is where the object touches the ground."""


def make_track_pictures(easel: Easel, session: LakeSession, clock: DayHours) -> tuple[Row, ...]:
    """Draws the longest tracks of the sources with the most objects.

    Returns:
        For each of at most four sources: `source`, its number of tracked `objects` on the day, the rows of the `shown`
        objects, the longest stay first, and their `picture`: the largest and sharpest image of the first object, with
        its box and the paths of all objects.

    Raises:
        PermanentError: This machine lacks the memory or disk space.
        TransientError: The store does not answer.
        ForbiddenError: The store denies access.
    """
    by_source: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(session, _LONGEST.format(within=clock.condition("first_seen"))):
        by_source[row["source"]].append(row)
    paths = _paths(session, [row["object_id"] for rows in by_source.values() for row in rows])
    pictures = []
    for source, shown in by_source.items():
        first = shown[0]
        boxes = [] if first["confidence"] is None else [Detection.of_row(first)]
        drawn = [
            DrawnPath(points, easel.colour_of(one["label"])) for one in shown for points in paths[one["object_id"]]
        ]
        picture = easel.draw(first["source_image_path"] or "", boxes, drawn)
        pictures.append({"source": source, "objects": first["objects"], "shown": shown, "picture": picture})
    return tuple(pictures)


def _paths(session: LakeSession, objects: Iterable[str]) -> Mapping[str, list[list[tuple[float, float]]]]:
    """Returns the points of each track of some objects; two tracks of one object are not connected."""
    found: dict[str, list[list[tuple[float, float]]]] = defaultdict(list)
    names = ", ".join(quoted(name) for name in objects)
    tracks: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for object_id, track_id, x, y in session.query(_PATHS.format(objects=names)).rows if names else ():
        tracks[object_id, track_id].append((x, y))
    for (object_id, _), points in tracks.items():
        found[object_id].append(points)
    return found
