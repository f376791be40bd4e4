"""Publishes the tracks of closed slices: one record per processed frame, also for frames without a track."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.times import format_time
from imgpipeline.lake.schema import FRAMES
from imgpipeline.lake.schema.tracks import STORED_TRACK_TABLES, TRACK_SLICES
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.publish.closed_slices import ClosedSlices, Ends, ends_to_json, parse_ends
from imgpipeline.publish.forms import classic_frame, record_of
from imgpipeline.publish.run import Form, Run, Wanted
from imgpipeline.publish.transactions import Batch, Publisher
from imgpipeline.stream.send import Record
from imgpipeline.tracking.manifest import read_tracks
from imgpipeline.tracking.values import SLICE

_NEWEST = """
SELECT source, max("timestamp"), max(processing_timestamp) FROM frames WHERE status = 'processed'
GROUP BY source ORDER BY source
"""
_SLICES = """
SELECT slice_start FROM track_slices WHERE source = ? AND slice_start >= ? AND slice_start < ? ORDER BY slice_start
"""
_SLICE_FRAMES = """
SELECT frame_id, frame_number, "timestamp" FROM frames
WHERE source = ? AND status = 'processed' AND "timestamp" >= ? AND "timestamp" < ? ORDER BY "timestamp", frame_id
"""
_POINTS = """
WITH chosen AS (SELECT track_id, unique_id, object_id, label, first_seen FROM tracks
                WHERE source = ? AND (? OR list_contains(?::VARCHAR[], label))),
     numbered AS (SELECT unique_id, row_number() OVER (ORDER BY min(first_seen), unique_id) AS "number"
                  FROM chosen GROUP BY unique_id)
SELECT p.frame_id, "number", track_id, object_id, unique_id, chosen.label, p.confidence, p.x, p.y, p.width, p.height
FROM track_points AS p JOIN chosen USING (track_id) JOIN numbered USING (unique_id)
WHERE p.source = ? AND p."timestamp" >= ? AND p."timestamp" < ? ORDER BY "number"
"""


def publish_tracks(run: Run, wanted: Wanted) -> int:
    """Publishes the slices that are closed and not published yet, and returns the number of records.

    Raises:
        FencedError: Another process publishes the same results on the topic.
        PermanentError: The topic or a stored table cannot be used.
        TransientError: Broker or store do not answer. A new call continues after the last committed transaction.
    """
    publisher: Publisher[Ends] = Publisher(wanted.topic, wanted.name_of("tracks"), parse_ends, dict)
    tables = (FRAMES.name, *(table.name for table in STORED_TRACK_TABLES))
    closed = ClosedSlices(run, TRACK_SLICES.name, tables, _versions, _NEWEST)

    def batches(until: Ends) -> Iterator[Batch]:
        for time in closed.times(until):
            for (start,) in list(time.engine.run(_SLICES, [time.source, time.begin, time.end])):
                until[time.source] = start + SLICE
                yield Batch(_records(time.engine, wanted, time.source, start), ends_to_json(until))

    return publisher.run(run, batches)


def _versions(store: ObjectStore, day: date) -> tuple[str, ...] | None:
    """Returns the e-tags of a day's frames and tracks; None if the tracks were made from other frames."""
    frames = read_stored(store, day_table_key(FRAMES.name, day))
    stored = list(read_tracks(store, day).values())
    if frames is None:
        return None
    if any(each is None or each.manifest.made_of.get(FRAMES.name) != frames.manifest.version for each in stored):
        return None
    return (frames.e_tag, *(each.e_tag for each in stored if each))


def _records(engine: Engine, wanted: Wanted, source: str, start: datetime) -> list[Record]:
    labels = list(wanted.kind.labels) if wanted.kind else []
    tracks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for frame_id, *point in engine.run(_POINTS, [source, not labels, labels, source, start, start + SLICE]):
        tracks[frame_id].append(_classic(*point) if wanted.form is Form.CLASSIC else _native(*point))
    records = []
    for frame_id, number, at in engine.run(_SLICE_FRAMES, [source, start, start + SLICE]):
        if wanted.form is Form.CLASSIC:
            named = classic_frame(frame_id, number, source, at)
        else:
            named = {"frame_id": frame_id, "source": source, "frame_number": number, "timestamp": format_time(at)}
        document = {**named, "tracks": tracks[frame_id]}
        records.append(record_of(wanted.topic, source, at.date().isoformat(), frame_id, document))
    return records


def _classic(
    number: int, _track: str, _object: str, _unique: str, _label: str, confidence: float, *box: float
) -> dict[str, Any]:
    x, y, width, height = box
    corners = [round(value, 2) for value in (x, y, x + width, y + height)]
    return {"track_id": number, "bbox": corners, "confidence": confidence, "class_id": 0}


def _native(
    _number: int, track: str, joined: str, unique: str, label: str, confidence: float, *box: float
) -> dict[str, Any]:
    named = {"track_id": track, "object_id": joined, "unique_id": unique, "label": label}
    return {**named, "confidence": confidence, "box": [round(value, 2) for value in box]}
