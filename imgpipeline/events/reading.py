"""Reads from the tables of a day: frames with objects and image comparisons for rules, and stored events."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date
from typing import Any

from imgpipeline.errors import UsageError
from imgpipeline.events.values import Event, FrameChange, SeenFrame, SeenObject
from imgpipeline.lake.days.summary_inputs import open_tables
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.events import WantedEvents, find_events
from imgpipeline.lake.schema.events import FRAME_CHANGES
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_FRAMES = """
SELECT frame_id, source, "timestamp", source_image_path, coalesce(image_width, 0), coalesce(image_height, 0)
FROM frames WHERE day = $day AND status = 'processed' AND (len($sources) = 0 OR list_contains($sources, source))
  AND (NOT $only_detected OR frame_id IN (SELECT frame_id FROM detections WHERE day = $day))
"""
_OBJECTS = """
SELECT frame_id, label, confidence, NULL, x, y, width, height FROM detections
WHERE day = $day AND (len($sources) = 0 OR list_contains($sources, source))
  AND (len($labels) = 0 OR list_contains($labels, label)) AND confidence >= $least
ORDER BY frame_id, detection_number
"""
_TRACKED_OBJECTS = """
SELECT frame_id, coalesce(t.label, d.label) AS label, d.confidence, t.object_id, d.x, d.y, d.width, d.height
FROM detections AS d
LEFT JOIN (FROM track_points WHERE day = $day) AS p USING (frame_id, detection_number)
LEFT JOIN (FROM tracks WHERE day = $day) AS t USING (track_id)
WHERE d.day = $day AND (len($sources) = 0 OR list_contains($sources, d.source))
  AND (len($labels) = 0 OR list_contains($labels, coalesce(t.label, d.label))) AND d.confidence >= $least
ORDER BY frame_id, detection_number
"""
"""A tracked object has the label of its track in all frames, and the same id in all slices of the day."""
Query = Callable[[str, Mapping[str, object]], Iterable[tuple[Any, ...]]]
"""Runs one query on the tables of a build or of a session, and returns its rows."""


def select_rows(engine: Engine, sql: str) -> list[dict[str, Any]]:
    """Returns the rows of a query as dictionaries by column name."""
    cursor = engine.connection.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def read_changes(engine: Engine) -> list[FrameChange]:
    """Returns the comparisons of an opened table `frame_changes`."""
    names = ", ".join(f'"{column.name}"' for column in FRAME_CHANGES.columns if column.name != "day")
    return [FrameChange(**row) for row in select_rows(engine, f"SELECT {names} FROM frame_changes")]  # noqa: S608 - own names


def read_frames(
    query: Query,
    day: date,
    sources: Sequence[str],
    labels: Sequence[str],
    min_confidence: float,
    *,
    with_tracks: bool,
    only_detected: bool = False,
) -> list[SeenFrame]:
    """Returns the processed frames of a UTC day, with the objects that a rule is about.

    Args:
        query: Has the tables `frames` and `detections`; with tracks also `tracks` and `track_points`.
        sources: Sources of the frames; empty: all.
        labels: Labels of the objects; empty: all.
        min_confidence: Minimum confidence of the objects.
        with_tracks: Whether to read which detections are the same object.
        only_detected: Whether to leave out frames without any detection.
    """
    of_frames = {"day": day, "sources": list(sources)}
    of_objects = {**of_frames, "labels": list(labels), "least": min_confidence}
    objects: dict[str, list[SeenObject]] = defaultdict(list)
    found = query(_TRACKED_OBJECTS if with_tracks else _OBJECTS, of_objects)
    for frame_id, label, confidence, track_id, *box in found:
        has_box = all(value is not None for value in box)
        box_xywh = (box[0], box[1], box[2], box[3]) if has_box else None
        objects[frame_id].append(SeenObject(label, confidence, box_xywh, track_id))
    frames = [
        SeenFrame(frame_id, source, timestamp, path, (width, height))
        for frame_id, source, timestamp, path, width, height in query(
            _FRAMES, {**of_frames, "only_detected": only_detected}
        )
    ]
    return [replace(frame, objects=tuple(objects[frame.frame_id])) for frame in frames]


def read_events(store: ObjectStore, settings: Settings, day: date) -> list[Event]:
    """Returns the stored events of a day, latest first.

    Raises:
        PermanentError: A stored table is not a Parquet file, or memory or disk space is insufficient.
        TransientError: The store does not answer.
    """
    return [_event(row) for row in find_events(store, settings, Span(day, day))[0].to_pylist()]


def read_event(store: ObjectStore, settings: Settings, event_id: str) -> Event:
    """Returns a stored event of any day.

    Raises:
        UsageError: There is no event with this id.
        PermanentError: As for `read_events`.
        TransientError: As for `read_events`.
    """
    rows = find_events(store, settings, Span(), WantedEvents(event_id=event_id))[0].to_pylist()
    if not rows:
        raise UsageError(
            f"There is no event {event_id!r}; events are built a few minutes after their frames.",
            next_step="use an event_id from `imgpipeline events list`",
        )
    return _event(rows[0])


def _event(row: dict[str, Any]) -> Event:
    return Event(**{each.name: _value(row[each.name]) for each in fields(Event)})


def read_stored_changes(store: ObjectStore, settings: Settings, day: date) -> list[FrameChange]:
    """Returns the stored image comparisons of a day; none if there is no table.

    Raises:
        PermanentError: A stored table is not a Parquet file, or memory or disk space is insufficient.
        TransientError: The store does not answer.
    """
    with open_tables(store, (), day, optional=(FRAME_CHANGES.name,), memory=settings.duckdb_memory) as opened:
        return read_changes(opened.engine) if opened.manifests else []


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
