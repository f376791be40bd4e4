"""The tracks of a day, drawn on images: of each source, the objects that stayed longest and where they went.

The image is the best one (largest and sharpest) of the object that stayed longest. The same tracks always give the same
pictures.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imgpipeline.contracts.detection import Detection
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.reports.easel import Easel, Picture
from imgpipeline.reports.hours import DayHours
from imgpipeline.reports.stored_day import DayQueries
from imgpipeline.vision.paths import DrawnPath

_MOST_SOURCES = 4
_MOST_OBJECTS = 8
"""Objects whose paths are drawn on one image."""
_POINTS = 30
"""About this many points of each track are drawn."""
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
"""The foot point, the middle of the lower edge, stands where the object stands."""


@dataclass(frozen=True, slots=True)
class LongestObject:
    """One of the objects of a source that stayed longest."""

    unique_id: str
    """Names the object within the day."""
    track_id: str
    """Its track with most points."""
    label: str
    """Class name."""
    first_seen: datetime
    """Time of its first detection, UTC."""
    last_seen: datetime
    """Time of its last detection, UTC."""

    @property
    def stay_s(self) -> float:
        """Seconds from first to last sight."""
        return (self.last_seen - self.first_seen).total_seconds()


@dataclass(frozen=True, slots=True)
class TrackPicture:
    """The longest tracks of one source."""

    source: str
    """The camera, video or folder."""
    objects: int
    """Tracked objects of the source on the day, also the shortest."""
    shown: tuple[LongestObject, ...]
    """Those that are drawn, the longest stay first; the image is of the first one."""
    picture: Picture
    """The image with the paths of all of them, and the box of the first."""


def make_track_pictures(easel: Easel, session: DayQueries, clock: DayHours) -> tuple[TrackPicture, ...]:
    """Draws the longest tracks of the sources with most objects.

    Args:
        easel: Draws them.
        session: Opened for the day.
        clock: The hours of the day.

    Returns:
        A picture for each of at most four sources.

    Raises:
        PermanentError: Memory or disk of this machine do not suffice.
        TransientError: The store does not answer.
        ForbiddenError: The store refuses everything.
    """
    by_source: dict[str, list[Sequence[Any]]] = defaultdict(list)
    for row in session.query(_LONGEST.format(within=clock.condition("first_seen"))).rows:
        by_source[row[0]].append(row)
    paths = _paths(session, [row[1] for rows in by_source.values() for row in rows])
    return tuple(_picture(easel, source, rows, paths) for source, rows in by_source.items())


def _paths(session: DayQueries, objects: Iterable[str]) -> dict[str, list[list[tuple[float, float]]]]:
    """Returns the points of each track of some objects: between two tracks of one object nothing is drawn."""
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
