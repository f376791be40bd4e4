"""Publishes tracks and events by closed slices: periods of ten minutes of a source that later frames no longer change.

A slice is closed when the source has frames after the slice and its overlap, or when no frame of the source was
processed for a while and the tables have all of its frames. Results that are built later are not published. Tracks have
one record per processed frame, also for frames without a track; events one per row of the table `events`.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from imgpipeline.contracts.messages import classic_frame
from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.events.values import TRACKED
from imgpipeline.lake.days.day_tables import DayTables
from imgpipeline.lake.days.derived import judge
from imgpipeline.lake.days.summary_inputs import list_versions, open_tables, stored_key
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.lake.schema.tables import FRAMES
from imgpipeline.lake.schema.tracks import STORED_TRACK_TABLES, TRACK_SLICES
from imgpipeline.lake.storage.engine import Engine, identifier
from imgpipeline.lake.storage.manifest import Manifest, read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.publish.csv_files import publisher_of
from imgpipeline.publish.transactions import (
    Form,
    Publication,
    ResultBatch,
    ResultPublisher,
    Run,
    record_of,
)
from imgpipeline.stream.send import Record
from imgpipeline.tracking.values import OVERLAP, SLICE, slice_start

QUIET = timedelta(minutes=10)
"""After this time without a processed frame, the last slice of a source is closed too."""
Ends = dict[str, datetime]
"""By source: everything before this time is published."""
_START = datetime.min.replace(tzinfo=UTC)
_NEWEST = """
SELECT source, max("timestamp"), max(processing_timestamp) FROM frames WHERE list_contains(?, status)
GROUP BY source ORDER BY source
"""
_SLICES = """
SELECT slice_start FROM track_slices WHERE source = ? AND slice_start >= ? AND slice_start < ? ORDER BY slice_start
"""
_SLICE_FRAMES = """
SELECT frame_id, frame_number, "timestamp", attributes FROM frames
WHERE source = ? AND status = 'processed' AND "timestamp" >= ? AND "timestamp" < ? ORDER BY "timestamp", frame_id
"""
_POINTS = """
WITH chosen AS (SELECT track_id, object_id, label, first_seen FROM tracks
                WHERE source = ? AND (? OR list_contains(?::VARCHAR[], label))),
     numbered AS (SELECT object_id, row_number() OVER (ORDER BY min(first_seen), object_id) AS "number"
                  FROM chosen GROUP BY object_id)
SELECT p.frame_id, "number", track_id, object_id, chosen.label, p.confidence, p.x, p.y, p.width, p.height
FROM track_points AS p JOIN chosen USING (track_id) JOIN numbered USING (object_id)
WHERE p.source = ? AND p."timestamp" >= ? AND p."timestamp" < ? ORDER BY "number"
"""
_COLUMNS = tuple(name for name in EVENTS.names if name != "day")
_TIMESTAMP = _COLUMNS.index("timestamp")
_EVENTS = f"""
SELECT {", ".join(map(identifier, _COLUMNS))} FROM events
WHERE source = ? AND "timestamp" >= ? AND "timestamp" < ? ORDER BY "timestamp", event_id
"""  # noqa: S608 - own names, quoted


@dataclass(frozen=True, slots=True)
class ClosedTime:
    """Closed slices of a source within one day."""

    engine: Engine
    source: str
    begin: datetime
    end: datetime
    """The end of the last closed slice; may be before `begin`."""


@dataclass(slots=True)
class ClosedSlices:
    """Finds the closed slices of the days that have a table."""

    run: Run
    table: str
    """The table with the results; its days are searched."""
    tables: tuple[str, ...]
    statuses: tuple[FrameStatus, ...]
    """Of the frames that close slices."""
    made_of: tuple[str, ...] = ()
    """Further tables of which the results may be made; they are not opened."""
    _settled: dict[date, str] = field(default_factory=dict)

    def times(self, until: Ends) -> Iterator[ClosedTime]:
        """Yields closed times by day and source.

        Days without open slices are opened again only when their table changes. At a day whose tables are older than
        its frames, the search ends: later days wait, so slices are published in order.

        Raises:
            LedgerError: A segment cannot be read.
            PermanentError: A stored table cannot be used.
            TransientError: The store does not answer.
        """
        store, now = self.run.store, self.run.clock()
        for day, version in sorted(list_versions(store, self.table).items()):
            if self._settled.get(day) == version:
                continue
            has_open = False
            with open_tables(store, self.tables, day, memory=self.run.settings.duckdb_memory) as opened:
                if not self._belong_together(day, opened.manifests):
                    self.run.on_waiting(day)
                    return
                sources = opened.engine.run(_NEWEST, [list(self.statuses)])
                quiet = {source for source, _, processed in sources if processed is None or now - processed > QUIET}
                has_all = bool(quiet) and _has_all_frames(store, day, opened.manifests[FRAMES.name], now)
                for source, newest, _ in sources:
                    is_over = has_all and source in quiet
                    end = slice_start(newest) + SLICE if is_over else slice_start(newest - OVERLAP)
                    has_open |= end <= newest
                    yield ClosedTime(opened.engine, source, until.get(source, _START), end)
            if not has_open:
                self._settled[day] = version

    def _belong_together(self, day: date, opened: Mapping[str, Manifest]) -> bool:
        """Whether each table was made of those versions of the other tables that are opened or stored now."""
        named = opened[self.table].made_of.keys() & set(self.made_of)
        stored = {name: read_stored(self.run.store, stored_key(name, day)) for name in named}
        tables = {**opened, **{name: found.manifest for name, found in stored.items() if found}}
        made_of = [pair for each in tables.values() for pair in each.made_of.items() if pair[0] in tables]
        return all(stored.values()) and all(tables[name].version == version for name, version in made_of)


def _has_all_frames(store: ObjectStore, day: date, frames: Manifest, now: datetime) -> bool:
    """Whether an opened table `frames` has everything that the ledger has of the day; builds may be late."""
    entry = DayTables(store, day, None, now)
    return not judge([entry.origin(frames)], entry.wanted(entry.read())).is_behind


def ends_to_json(until: Mapping[str, datetime]) -> dict[str, Any]:
    """Returns how far each source is published, as a JSON object."""
    return {"until": {source: format_time(at) for source, at in sorted(until.items())}}


def parse_ends(data: Any) -> Ends:
    """Parses what `ends_to_json` wrote; raises KeyError, TypeError or ValueError for other data."""
    return {source: parse_time(at) for source, at in data["until"].items()}


class ShownTrack(NamedTuple):
    """A track in one frame, as it is published."""

    number: int
    """Number of the object in the classic form."""
    track_id: str
    object_id: str
    label: str
    confidence: float
    box_xywh: tuple[float, float, float, float]

    def document(self, form: Form) -> dict[str, Any]:
        """Returns it as a JSON object."""
        x, y, width, height = self.box_xywh
        if form is Form.CLASSIC:
            corners = [round(value, 2) for value in (x, y, x + width, y + height)]
            return {"track_id": self.number, "bbox": corners, "confidence": self.confidence, "class_id": 0}
        named = {"track_id": self.track_id, "object_id": self.object_id, "label": self.label}
        return {**named, "confidence": self.confidence, "box": [round(value, 2) for value in self.box_xywh]}


def publish_tracks(run: Run, wanted: Publication) -> int:
    """Publishes the slices that are closed and not published yet; result and errors as `ResultPublisher.run`."""
    publisher = publisher_of(wanted, "tracks", parse_ends, dict[str, datetime])
    tables = (FRAMES.name, *(table.name for table in STORED_TRACK_TABLES))
    closed = ClosedSlices(run, TRACK_SLICES.name, tables, (FrameStatus.PROCESSED,))

    def batches(until: Ends) -> Iterator[ResultBatch]:
        for time in closed.times(until):
            for (start,) in list(time.engine.run(_SLICES, [time.source, time.begin, time.end])):
                until[time.source] = start + SLICE
                yield ResultBatch(_track_records(time.engine, wanted, time.source, start), ends_to_json(until))

    return publisher.run(run, batches)


def _track_records(engine: Engine, wanted: Publication, source: str, start: datetime) -> list[Record]:
    labels = list(wanted.kind.labels) if wanted.kind else []
    tracks: dict[str, list[ShownTrack]] = defaultdict(list)
    given = [source, not labels, labels, source, start, start + SLICE]
    for frame_id, number, track, joined, label, confidence, x, y, width, height in engine.run(_POINTS, given):
        tracks[frame_id].append(ShownTrack(number, track, joined, label, confidence, (x, y, width, height)))
    records = []
    for frame_id, number, at, text in engine.run(_SLICE_FRAMES, [source, start, start + SLICE]):
        named, shown = json.loads(text), tracks[frame_id]
        records.append(tracks_record(wanted, source, frame_id, number, at, named, shown, provisional=False))
    return records


def tracks_record(
    wanted: Publication, source: str, frame_id: str, number: int | None, at: datetime, attributes: Mapping[str, Any],
    tracks: Sequence[ShownTrack], *, provisional: bool,
) -> Record:  # fmt: skip
    """Returns the record of one frame with its tracks."""
    shown = [each.document(wanted.form) for each in tracks]
    if wanted.form is Form.CLASSIC:
        named = classic_frame(source, at, number, frame_id, attributes)
    else:
        named = {"frame_id": frame_id, "source": source, "frame_number": number, "timestamp": format_time(at),
                 "provisional": provisional}  # fmt: skip
    return record_of(wanted.topic, source, at.date().isoformat(), frame_id, {**named, "tracks": shown})


def publish_events(run: Run, topic: str) -> int:
    """Publishes the events of slices that are closed and not published yet; otherwise like `publish_tracks`."""
    publisher: ResultPublisher[Ends] = ResultPublisher(topic, "events", parse_ends, dict)
    closed = ClosedSlices(run, EVENTS.name, (FRAMES.name, EVENTS.name), tuple(FrameStatus), TRACKED)

    def batches(until: Ends) -> Iterator[ResultBatch]:
        for time in closed.times(until):
            found = list(time.engine.run(_EVENTS, [time.source, time.begin, time.end]))
            for start, rows in groupby(found, key=lambda row: slice_start(row[_TIMESTAMP])):
                until[time.source] = start + SLICE
                yield ResultBatch([_event_record(topic, row) for row in rows], ends_to_json(until))

    return publisher.run(run, batches)


def _event_record(topic: str, row: Sequence[Any]) -> Record:
    event = dict(zip(_COLUMNS, row, strict=True))
    times = {name: format_time(value) for name, value in event.items() if isinstance(value, datetime)}
    return record_of(topic, event["source"], row[_TIMESTAMP].date().isoformat(), event["event_id"], {**event, **times})
