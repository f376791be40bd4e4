"""Publishes the tracks of closed slices: one record for each processed frame, also for those without a track.

A slice of a source is closed when the source has frames after it and its overlap, or when nothing of the source was
processed for a while. What is built of it later is not published again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.faultpoints import reach
from imgpipeline.lake.build.summary_inputs import list_versions, open_tables
from imgpipeline.lake.schema import FRAMES
from imgpipeline.lake.schema.tracks import STORED_TRACK_TABLES, TRACK_SLICES
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.publish.checkpoints import (
    checkpoint_record,
    checkpoint_topic,
    create_checkpoint_topic,
    read_checkpoint,
)
from imgpipeline.publish.forms import classic_frame, record_of
from imgpipeline.publish.options import Form, Kind
from imgpipeline.settings import Settings
from imgpipeline.stream.batches import BatchSender, Record
from imgpipeline.tracking.manifest import read_tracks
from imgpipeline.tracking.slices import OVERLAP, SLICE, slice_start

QUIET = timedelta(minutes=10)
"""After this time without a processed frame, the last slice of a source is closed too."""
_SOURCES = """
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


@dataclass(frozen=True, slots=True)
class WantedTracks:
    """Which tracks are published where."""

    topic: str
    """Kafka topic."""
    form: Form = Form.NATIVE
    """How they are written."""
    kind: Kind | None = None
    """Which labels; None for all."""

    @property
    def name(self) -> str:
        """Names the publisher: of those with one name on one topic, only the latest can publish."""
        return f"tracks-{self.kind}" if self.kind else "tracks"


def publish_tracks(
    store: ObjectStore,
    settings: Settings,
    wanted: WantedTracks,
    *,
    clock: Callable[[], datetime],
    goes_on: Callable[[], bool] = lambda: False,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Publishes the slices that are closed and not published yet, and returns the number of records.

    Args:
        store: The object store.
        settings: Name the broker, and limit DuckDB.
        wanted: Which tracks are published where.
        clock: Tells the time, UTC.
        goes_on: Called when everything is published; whether to look for more.
        progress: Called with the number of records of each committed transaction.

    Raises:
        FencedError: Another process publishes the same there now.
        PermanentError: The topic or a stored table cannot be used.
        TransientError: Broker or store do not answer. A new call goes on after the last committed transaction.
    """
    create_checkpoint_topic(settings, wanted.topic)
    topics = (wanted.topic, checkpoint_topic(wanted.topic))
    count = 0
    with closing(
        BatchSender(settings, fence=f"publish-{wanted.name}", topics=topics, owner="topic and kind of result")
    ) as sender:
        sender.open()  # before the checkpoint is read: an unfinished transaction has ended then
        reach("publish opened", wanted.topic)
        until = read_checkpoint(settings, wanted.topic, wanted.name, _parse) or {}
        settled: dict[date, str] = {}
        while True:
            for source, end, records in _closed(store, settings, wanted, until, settled, clock()):
                until[source] = end
                state = {"until": {name: format_time(at) for name, at in sorted(until.items())}}
                reach("publish batch", wanted.topic)
                sender.send([*records, checkpoint_record(wanted.topic, wanted.name, state)])
                count += len(records)
                progress(len(records))
            if not goes_on():
                return count


def _parse(data: Any) -> dict[str, datetime]:
    return {name: parse_time(at) for name, at in data["until"].items()}


def _closed(
    store: ObjectStore,
    settings: Settings,
    wanted: WantedTracks,
    until: dict[str, datetime],
    settled: dict[date, str],
    now: datetime,
) -> Iterator[tuple[str, datetime, list[Record]]]:
    """Yields closed slices by day, source and time: the source, the slice's end, and its records.

    `settled` notes days without open slices, with the version of their tracks: they are not opened again.
    """
    for day, version in sorted(list_versions(store, TRACK_SLICES.name).items()):
        if settled.get(day) == version:
            continue
        with _opened(store, settings, day) as engine:
            if engine is None:
                return  # its tracks are older than its frames; later days wait, so that slices stay in order
            has_open = False
            for source, newest, processed in list(engine.run(_SOURCES)):
                begin = until.get(source, datetime.min.replace(tzinfo=now.tzinfo))
                is_quiet = processed is None or now - processed > QUIET
                end = slice_start(newest) + SLICE if is_quiet else slice_start(newest - OVERLAP)
                has_open |= end <= newest
                for (start,) in list(engine.run(_SLICES, [source, begin, end])):
                    yield source, start + SLICE, _records(engine, wanted, source, start)
        if not has_open:
            settled[day] = version


@contextmanager
def _opened(store: ObjectStore, settings: Settings, day: date) -> Iterator[Engine | None]:
    """Opens a day's frames and tracks; None where the tracks were not made of these frames."""
    tables = [FRAMES.name, *(table.name for table in STORED_TRACK_TABLES)]
    before = _versions(store, day)
    with open_tables(store, tables, day, memory=settings.duckdb_memory) as engine:
        yield engine if before is not None and before == _versions(store, day) else None


def _versions(store: ObjectStore, day: date) -> tuple[str, ...] | None:
    frames = read_stored(store, day_table_key(FRAMES.name, day))
    stored = list(read_tracks(store, day).values())
    if frames is None or any(each is None or each.manifest.made_of.get(FRAMES.name) != frames.e_tag for each in stored):
        return None
    return (frames.e_tag, *(each.e_tag for each in stored if each))


def _records(engine: Engine, wanted: WantedTracks, source: str, start: datetime) -> list[Record]:
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
