"""The alerts as a table: `Lake.alerts`."""

import pyarrow as pa

from imgpipeline.events.alerts.listing import list_alerts
from imgpipeline.objectstore import ObjectStore

_TEXT, _TEXTS, _TIME = pa.string(), pa.list_(pa.string()), pa.timestamp("us", "UTC")
_EVENT = {
    "rule": _TEXT, "kind": _TEXT, "source": _TEXT, "timestamp": _TIME, "started_at": _TIME, "ended_at": _TIME,
    "place": _TEXT, "label": _TEXT, "direction": _TEXT, "value": pa.float64(), "reason": _TEXT, "frame_ids": _TEXTS,
    "image_paths": _TEXTS, "track_ids": _TEXTS,
}  # fmt: skip
_SCHEMA = {
    "number": pa.int64(), "event_id": _TEXT, **_EVENT, "difference_image": _TEXT, "raised_at": _TIME,
    "is_delivered": pa.bool_(), "delivery_attempts": pa.int64(), "acknowledged_by": _TEXTS,
}  # fmt: skip


def find_alerts(store: ObjectStore, limit: int | None = None) -> pa.Table:
    """Returns the latest alerts, the latest first, one row an alert.

    Args:
        store: The object store.
        limit: At most this many, from 1; None: all.

    Raises:
        PermanentError: A stored object is damaged, or numbers are missing.
        TransientError: The store does not answer.
    """
    rows = [
        {
            "number": listed.alert.number,
            "event_id": listed.alert.event.event_id,
            **{name: getattr(listed.alert.event, name) for name in _EVENT},
            "difference_image": listed.alert.difference_image,
            "raised_at": listed.alert.raised_at,
            "is_delivered": listed.is_delivered,
            "delivery_attempts": len(listed.attempts),
            "acknowledged_by": [given.by for given in listed.acknowledgements],
        }
        for listed in list_alerts(store, limit=limit)[0]
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([pa.field(name, kind) for name, kind in _SCHEMA.items()]))
