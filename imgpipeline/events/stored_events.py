"""Reads the events of a day from the table `events`."""

from dataclasses import fields
from datetime import date
from typing import Any

from imgpipeline.events.values import Event
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.events import find_events
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings


def read_events(store: ObjectStore, settings: Settings, day: date) -> list[Event]:
    """Returns the stored events of a day, the latest first.

    Raises:
        PermanentError: A stored table is not a Parquet file, or memory or disk do not suffice.
        TransientError: The store does not answer.
    """
    rows = find_events(store, settings, Span(day, day))[0].to_pylist()
    names = [each.name for each in fields(Event)]
    return [Event(**{name: _value(row[name]) for name in names}) for row in rows]


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
