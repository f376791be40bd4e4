"""Reads what the stored tables of a day say of its events: all of them, one by its name, and image comparisons."""

from dataclasses import fields
from datetime import date
from typing import Any

from imgpipeline.errors import UsageError
from imgpipeline.events.frame_changes import read_changes
from imgpipeline.events.values import Event, FrameChange
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.events import WantedEvents, find_events
from imgpipeline.lake.schema import FRAME_CHANGES
from imgpipeline.lake.sessions.derived_tables import create_derived_tables, fill_derived_tables
from imgpipeline.lake.storage.cache import open_cache
from imgpipeline.lake.storage.engine import open_engine
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


def read_stored_changes(store: ObjectStore, settings: Settings, day: date) -> list[FrameChange]:
    """Returns the comparisons of images that the stored table of a day has; none if there is no table.

    Raises:
        PermanentError: A stored table is not a Parquet file, or memory or disk do not suffice.
        TransientError: The store does not answer.
    """
    with open_cache(store) as (folder, cache), open_engine(folder, memory=settings.duckdb_memory) as engine:
        create_derived_tables(engine)
        fill_derived_tables(engine, store, cache, lambda stored: stored == day, tables=(FRAME_CHANGES,))
        return read_changes(engine)


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
