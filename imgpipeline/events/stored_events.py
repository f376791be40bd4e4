"""Reads the events of a day from the table `events`."""

from dataclasses import fields
from datetime import date

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
    return [
        Event(**{
            each.name: tuple(row[each.name] or ()) if isinstance(row[each.name], list) else row[each.name]
            for each in fields(Event)
        })
        for row in rows
    ]  # fmt: skip
