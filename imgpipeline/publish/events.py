"""Publishes the events of closed slices: one record for each row of the table `events`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from itertools import groupby
from typing import Any

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.times import format_time
from imgpipeline.events.values import TRACKED
from imgpipeline.lake.build.summary_inputs import open_tables
from imgpipeline.lake.schema import EVENTS, FRAMES
from imgpipeline.lake.storage.engine import Engine, identifier
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.publish.closed_slices import ClosedSlices, ClosedTime, Ends, ends_to_json, parse_ends
from imgpipeline.publish.forms import record_of
from imgpipeline.publish.transactions import Batch, Publisher
from imgpipeline.settings import Settings
from imgpipeline.stream.batches import Record
from imgpipeline.tracking.manifest import read_tracks
from imgpipeline.tracking.values import SLICE, slice_start

NAME = "events"
"""Names the publisher: of those on one topic, only the latest can publish."""
_COLUMNS = tuple(name for name in EVENTS.names if name != "day")
_NEWEST = """
SELECT source, max("timestamp"), max(processing_timestamp) FROM frames GROUP BY source ORDER BY source
"""
_EVENTS = f"""
SELECT {", ".join(map(identifier, _COLUMNS))} FROM events
WHERE source = ? AND "timestamp" >= ? AND "timestamp" < ? ORDER BY "timestamp", event_id
"""  # noqa: S608 - own names, quoted


@dataclass(frozen=True, slots=True)
class _Row:
    """One event."""

    timestamp: datetime
    """Time of the frame that met the rule, UTC."""
    document: dict[str, Any]
    """All columns, as JSON has them."""


def publish_events(
    store: ObjectStore,
    settings: Settings,
    topic: str,
    *,
    clock: Callable[[], datetime],
    goes_on: Callable[[], bool] = lambda: False,
    progress: Callable[[int], object] = lambda _: None,
    held: Callable[[date], object] = lambda _: None,
) -> int:
    """Publishes the events of slices that are closed and not published yet, and returns the number of records.

    Args:
        store: The object store.
        settings: Name the broker, and limit DuckDB.
        topic: Kafka topic.
        clock: Tells the time, UTC.
        goes_on: Called when everything is published; whether to look for more.
        progress: Called with the number of records of each committed transaction.
        held: Called with a day whose tables are older than its frames; it and later days are not published yet.

    Raises:
        FencedError: Another process publishes the same there now.
        PermanentError: The topic or a stored table cannot be used.
        TransientError: Broker or store do not answer. A new call continues after the last committed transaction.
    """
    publisher: Publisher[Ends] = Publisher(topic, NAME, parse_ends, dict)
    closed = ClosedSlices(store, EVENTS.name, partial(_opened, store, settings), _NEWEST, held)

    def batches(until: Ends) -> Iterator[Batch]:
        for time in closed.times(until, clock()):
            for start, rows in groupby(_rows(time), key=lambda row: slice_start(row.timestamp)):
                until[time.source] = start + SLICE
                yield Batch([_record(topic, row) for row in rows], ends_to_json(until))

    return publisher.run(settings, batches, goes_on=goes_on, progress=progress)


@contextmanager
def _opened(store: ObjectStore, settings: Settings, day: date) -> Iterator[Engine | None]:
    """Opens a day's frames and events; None if the events were not made of these frames and their tracks."""
    before = _versions(store, day)
    with open_tables(store, (FRAMES.name, EVENTS.name), day, memory=settings.duckdb_memory) as engine:
        yield engine if before is not None and before == _versions(store, day) else None


def _versions(store: ObjectStore, day: date) -> tuple[str, str] | None:
    frames, events = (read_stored(store, day_table_key(table.name, day)) for table in (FRAMES, EVENTS))
    if frames is None or events is None or events.manifest.made_of.get(FRAMES.name) != frames.e_tag:
        return None
    wanted = {day_table_key(name, day): read for name, read in events.manifest.made_of.items() if name in TRACKED}
    tracks = read_tracks(store, day) if wanted else {}
    for key, version in wanted.items():
        stored = tracks[key]
        if stored is None or stored.e_tag != version or stored.manifest.made_of.get(FRAMES.name) != frames.e_tag:
            return None
    return frames.e_tag, events.e_tag


def _rows(time: ClosedTime) -> list[_Row]:
    rows = []
    for row in time.engine.run(_EVENTS, [time.source, time.begin, time.end]):
        event = dict(zip(_COLUMNS, row, strict=True))
        times = {name: format_time(value) for name, value in event.items() if isinstance(value, datetime)}
        rows.append(_Row(event["timestamp"], {**event, **times}))
    return rows


def _record(topic: str, row: _Row) -> Record:
    day = row.timestamp.date().isoformat()
    return record_of(topic, row.document["source"], day, row.document["event_id"], row.document)
