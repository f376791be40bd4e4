"""The alerts as a table: `Lake.alerts`."""

import json
from typing import Any

import pyarrow as pa

from imgpipeline.contracts.keys import ALERTS, DELIVERED, acknowledgements_prefix, alert_key, parse_number
from imgpipeline.contracts.times import parse_time
from imgpipeline.errors import PermanentError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.ahead import map_ahead

_READERS = 16
_AHEAD = 32

_TEXT, _TEXTS, _TIME = pa.string(), pa.list_(pa.string()), pa.timestamp("us", "UTC")
_EVENT = {
    "rule": _TEXT, "kind": _TEXT, "source": _TEXT, "timestamp": _TIME, "started_at": _TIME, "ended_at": _TIME,
    "place": _TEXT, "label": _TEXT, "direction": _TEXT, "value": pa.float64(), "reason": _TEXT, "frame_ids": _TEXTS,
    "image_paths": _TEXTS, "track_ids": _TEXTS,
}  # fmt: skip
_SCHEMA = {
    "number": pa.int64(), "event_id": _TEXT, **_EVENT, "difference_image": _TEXT, "raised_at": _TIME,
    "is_delivered": pa.bool_(), "acknowledged_by": _TEXTS,
}  # fmt: skip


def find_alerts(store: ObjectStore, limit: int | None = None) -> pa.Table:
    """Returns the latest alerts, the latest first, one row an alert.

    Args:
        store: The object store.
        limit: At most this many, from 1; None: all.

    Raises:
        PermanentError: A stored alert is damaged.
        TransientError: The store does not answer.
    """
    numbers = sorted(_numbers(store, ALERTS), reverse=True)[:limit]
    delivered = _numbers(store, DELIVERED)
    found = map_ahead(lambda number: _row(store, number), numbers, workers=_READERS, ahead=_AHEAD)
    rows = [{**row, "is_delivered": row["number"] in delivered} for row in found]
    return pa.Table.from_pylist(rows, schema=pa.schema([pa.field(name, kind) for name, kind in _SCHEMA.items()]))


def _numbers(store: ObjectStore, prefix: str) -> set[int]:
    found = (parse_number(info.key) for info in store.list_objects(prefix))
    return {number for number in found if number is not None}


def _row(store: ObjectStore, number: int) -> dict[str, Any]:
    """Returns an alert by the names of the columns."""
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
