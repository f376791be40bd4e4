"""Publishes events: one record per row of the table `events` in closed slices, or one per alert in classic form."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby, islice
from typing import Any

from imgpipeline.contracts.keys import alert_key, day_table_key
from imgpipeline.contracts.times import format_time
from imgpipeline.events.alerts.chain import Alert, read_alerts
from imgpipeline.events.values import TRACKED
from imgpipeline.lake.schema import EVENTS, FRAMES
from imgpipeline.lake.storage.engine import identifier
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.publish.closed_slices import ClosedSlices, ClosedTime, Ends, ends_to_json, parse_ends
from imgpipeline.publish.forms import record_of
from imgpipeline.publish.run import Run
from imgpipeline.publish.transactions import Batch, Publisher
from imgpipeline.stream.send import Record
from imgpipeline.tracking.manifest import read_tracks
from imgpipeline.tracking.values import SLICE, slice_start

_BATCH_ALERTS = 500
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
    """All columns, as JSON values."""


def publish_events(run: Run, topic: str) -> int:
    """Publishes the events of slices that are closed and not published yet, and returns the number of records.

    Raises:
        FencedError: Another process publishes the same results on the topic.
        PermanentError: The topic or a stored table cannot be used.
        TransientError: Broker or store do not answer. A new call continues after the last committed transaction.
    """
    publisher: Publisher[Ends] = Publisher(topic, "events", parse_ends, dict)
    closed = ClosedSlices(run, EVENTS.name, (FRAMES.name, EVENTS.name), _versions, _NEWEST)

    def batches(until: Ends) -> Iterator[Batch]:
        for time in closed.times(until):
            for start, rows in groupby(_rows(time), key=lambda row: slice_start(row.timestamp)):
                until[time.source] = start + SLICE
                yield Batch([_event_record(topic, row) for row in rows], ends_to_json(until))

    return publisher.run(run, batches)


def _versions(store: ObjectStore, day: date) -> tuple[str, str] | None:
    """Returns the e-tags of a day's frames and events; None if the events were made from other frames or tracks."""
    frames, events = (read_stored(store, day_table_key(table.name, day)) for table in (FRAMES, EVENTS))
    if frames is None or events is None or events.manifest.made_of.get(FRAMES.name) != frames.manifest.version:
        return None
    wanted = {day_table_key(name, day): read for name, read in events.manifest.made_of.items() if name in TRACKED}
    tracks = read_tracks(store, day) if wanted else {}
    for key, version in wanted.items():
        stored = tracks[key]
        if stored is None or stored.manifest.content != version:
            return None
        if stored.manifest.made_of.get(FRAMES.name) != frames.manifest.version:
            return None
    return frames.e_tag, events.e_tag


def _rows(time: ClosedTime) -> list[_Row]:
    rows = []
    for row in time.engine.run(_EVENTS, [time.source, time.begin, time.end]):
        event = dict(zip(_COLUMNS, row, strict=True))
        times = {name: format_time(value) for name, value in event.items() if isinstance(value, datetime)}
        rows.append(_Row(event["timestamp"], {**event, **times}))
    return rows


def _event_record(topic: str, row: _Row) -> Record:
    day = row.timestamp.date().isoformat()
    return record_of(topic, row.document["source"], day, row.document["event_id"], row.document)


def publish_alerts(run: Run, topic: str) -> int:
    """Publishes the alerts after the last checkpoint in classic form, and returns the number of records.

    Raises:
        FencedError: Another process publishes the same results on the topic.
        PermanentError: The topic cannot be used, or an alert is damaged or missing.
        TransientError: Broker or store do not answer. A new call continues after the last committed transaction.
    """
    publisher: Publisher[list[int]] = Publisher(topic, "alerts", lambda data: [int(data["last"])], lambda: [0])

    def batches(last: list[int]) -> Iterator[Batch]:
        alerts = read_alerts(run.store, after=last[0])
        while several := list(islice(alerts, _BATCH_ALERTS)):
            last[0] = several[-1].number
            yield Batch([_alert_record(run.store, topic, alert) for alert in several], {"last": last[0]})

    return publisher.run(run, batches)


def _alert_record(store: ObjectStore, topic: str, alert: Alert) -> Record:
    """Returns the number of an alert and the URL of its object, as change-alert pipelines publish them."""
    path = f"{store.url}/{alert_key(alert.number)}"
    document = {"image_event_num": alert.number, "image_event_db_path": path}
    event = alert.event
    return record_of(topic, event.source, event.timestamp.date().isoformat(), event.event_id, document)
