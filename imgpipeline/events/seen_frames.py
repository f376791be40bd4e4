"""Reads what rules are evaluated on out of the tables of one day."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from imgpipeline.events.values import SeenFrame, SeenObject
from imgpipeline.lake.schema.tracks import TRACK_POINTS, TRACKS

TRACKED = (TRACK_POINTS.name, TRACKS.name)
"""The tables that say which detections are one object."""
_FRAMES = """
SELECT frame_id, source, "timestamp", source_image_path, coalesce(image_width, 0), coalesce(image_height, 0)
FROM frames WHERE status = 'processed' AND (? OR list_contains(?::VARCHAR[], source))
"""
_OBJECTS = """
SELECT frame_id, label, confidence, NULL, x, y, width, height FROM detections
WHERE (? OR list_contains(?::VARCHAR[], source)) AND (? OR list_contains(?::VARCHAR[], label)) AND confidence >= ?
ORDER BY frame_id, detection_number
"""
_TRACKED_OBJECTS = """
SELECT frame_id, coalesce(t.label, d.label) AS label, d.confidence, t.object_id, d.x, d.y, d.width, d.height
FROM detections AS d
LEFT JOIN track_points AS p USING (frame_id, detection_number)
LEFT JOIN tracks AS t USING (track_id)
WHERE (? OR list_contains(?::VARCHAR[], d.source)) AND (? OR list_contains(?::VARCHAR[], coalesce(t.label, d.label)))
  AND d.confidence >= ?
ORDER BY frame_id, detection_number
"""
"""A tracked object has the label of its track in all frames, and one name over all slices of the day."""


class DayQueries(Protocol):
    """Answers queries over the tables of one day: an engine of a build, or a session."""

    def run(self, sql: str, parameters: Sequence[object] = (), /) -> Iterable[tuple[Any, ...]]:
        """Runs one query and returns its rows."""


def read_frames(
    engine: DayQueries, sources: Sequence[str], labels: Sequence[str], min_confidence: float, *, with_tracks: bool
) -> list[SeenFrame]:
    """Returns the processed frames of opened day tables, with the objects that a rule looks at.

    Args:
        engine: Has the tables `frames` and `detections` of one day; with tracks also `tracks` and `track_points`.
        sources: Only frames of these; empty: all.
        labels: Only objects with one of these labels; empty: all.
        min_confidence: Only objects with at least this confidence.
        with_tracks: Whether to say which detections are one object.
    """
    chosen = [not sources, list(sources)]
    objects: dict[str, list[SeenObject]] = defaultdict(list)
    found = engine.run(
        _TRACKED_OBJECTS if with_tracks else _OBJECTS, [*chosen, not labels, list(labels), min_confidence]
    )
    for frame_id, label, confidence, track_id, *box in found:
        has_box = all(value is not None for value in box)
        box_xywh = (box[0], box[1], box[2], box[3]) if has_box else None
        objects[frame_id].append(SeenObject(label, confidence, box_xywh, track_id))
    frames = [
        SeenFrame(frame_id, source, timestamp, path, (width, height))
        for frame_id, source, timestamp, path, width, height in engine.run(_FRAMES, chosen)
    ]
    return [replace(frame, objects=tuple(objects[frame.frame_id])) for frame in frames]
