"""Reads events from the table `events`: those of a day, or one by its name."""

from dataclasses import fields
from datetime import date
from typing import Any

from imgpipeline.errors import UsageError
from imgpipeline.events.values import Event
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.events import WantedEvents, find_events
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings


def read_events(store: ObjectStore, settings: Settings, day: date) -> list[Event]:
    """Returns the stored events of a day, the latest first.

    Raises:
        PermanentError: A stored table is not a Parquet file, or memory or disk do not suffice.
        TransientError: The store does not answer.
    """
    return [_event(row) for row in find_events(store, settings, Span(day, day))[0].to_pylist()]


def read_event(store: ObjectStore, settings: Settings, event_id: str) -> Event:
    """Returns a stored event of any day.

    Raises:
        UsageError: There is none of this name.
        PermanentError: As `read_events`.
        TransientError: As `read_events`.
    """
    rows = find_events(store, settings, Span(), WantedEvents(event_id=event_id))[0].to_pylist()
    if not rows:
        raise UsageError(
            f"There is no event {event_id!r}; events are built a few minutes after their frames.",
            next_step="take an event_id of `imgpipeline events list`",
        )
    return _event(rows[0])


def _event(row: dict[str, Any]) -> Event:
    return Event(**{each.name: _value(row[each.name]) for each in fields(Event)})


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
