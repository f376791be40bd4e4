"""Stored events and alerts as tables, the latest first: `imgpipeline events list`, `Lake.events`, `Lake.alerts`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from imgpipeline.contracts.keys import ALERTS, DELIVERED, acknowledgements_prefix, alert_key, parse_number
from imgpipeline.contracts.times import parse_time
from imgpipeline.errors import PermanentError
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.wanted_frames import equal_to
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.lake.sessions.tables import create_derived_tables, fill_derived_tables
from imgpipeline.lake.storage.cache import open_cache
from imgpipeline.lake.storage.engine import identifier, open_engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class WantedEvents:
    """A filter of events."""

    rule: str | None = None
    source: str | None = None
    kind: str | None = None
    event_id: str | None = None


_ALL = WantedEvents()


def find_events(
    store: ObjectStore, settings: Settings, span: Span, wanted: WantedEvents = _ALL, limit: int | None = None
) -> tuple[pa.Table, int]:
    """Finds events, with all columns of the table `events`.

    Args:
        span: UTC days.
        limit: At most this many, from 1; None: all.

    Returns:
        The events, the latest first, and the number of all matching events.

    Raises:
        PermanentError: A stored table is not a Parquet file, or memory or disk do not suffice.
        TransientError: The store does not answer.
    """
    condition = equal_to(**asdict(wanted))
    columns = ", ".join(map(identifier, EVENTS.names))
    with open_cache(store) as (folder, cache), open_engine(folder, memory=settings.duckdb_memory) as engine:
        create_derived_tables(engine)
        fill_derived_tables(engine, store, cache, lambda day: day in span, tables=(EVENTS,))
        shown = f"SELECT {columns} FROM events WHERE {condition} "  # noqa: S608 - own names, quoted
        order = 'ORDER BY "timestamp" DESC, event_id' + (f" LIMIT {int(limit)}" if limit else "")
        table: pa.Table = engine.connection.sql(shown + order).to_arrow_table()
        return table, engine.value(f"SELECT count(*) FROM events WHERE {condition}")  # noqa: S608 - as above


_READERS = 16
_AHEAD = 32

_TEXT, _TEXTS, _TIME = pa.string(), pa.list_(pa.string()), pa.timestamp("us", "UTC")
_EVENT: Mapping[str, pa.DataType] = {
    "rule": _TEXT, "kind": _TEXT, "source": _TEXT, "timestamp": _TIME, "started_at": _TIME, "ended_at": _TIME,
    "place": _TEXT, "label": _TEXT, "direction": _TEXT, "value": pa.float64(), "reason": _TEXT, "frame_ids": _TEXTS,
    "image_paths": _TEXTS, "track_ids": _TEXTS,
}  # fmt: skip
_SCHEMA: Mapping[str, pa.DataType] = {
    "number": pa.int64(), "event_id": _TEXT, **_EVENT, "difference_image": _TEXT, "raised_at": _TIME,
    "is_delivered": pa.bool_(), "acknowledged_by": _TEXTS,
}  # fmt: skip


def find_alerts(store: ObjectStore, limit: int | None = None) -> pa.Table:
    """Returns the latest alerts, the latest first, with one row per alert.

    Args:
        limit: At most this many, from 1; None: all.

    Raises:
        PermanentError: A stored alert is damaged.
        TransientError: The store does not answer.
    """
    numbers = sorted(_numbers(store, ALERTS), reverse=True)[:limit]
    delivered = _numbers(store, DELIVERED)
    found = map_ahead(lambda number: _row(store, number), numbers, workers=_READERS, ahead=_AHEAD)
    rows = [{**row, "is_delivered": row["number"] in delivered} for row in found]
    return pa.Table.from_pylist(rows, schema=pa.schema(_SCHEMA))


def _numbers(store: ObjectStore, prefix: str) -> set[int]:
    found = (parse_number(info.key) for info in store.list_objects(prefix))
    return {number for number in found if number is not None}


def _row(store: ObjectStore, number: int) -> dict[str, Any]:
    """Returns an alert as a mapping of columns."""
    acknowledged = sorted(info.key for info in store.list_objects(acknowledgements_prefix(number)))
    try:
        alert = json.loads(store.get(alert_key(number)))
        times = {name: parse_time(alert[name]) for name, kind in _SCHEMA.items() if kind == _TIME}
        by = [json.loads(store.get(key))["by"] for key in acknowledged]
        return {**{name: alert.get(name) for name in _SCHEMA}, **times, "acknowledged_by": by}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PermanentError(
            f"{store.url}/{alert_key(number)} or one of its acknowledgements is damaged.",
            next_step="restore it from a backup of the store",
        ) from None
