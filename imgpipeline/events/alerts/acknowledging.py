"""Acknowledgements of alerts: who has seen an alert, when, and what they noted."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from imgpipeline.contracts.alert_keys import acknowledgements_prefix, entry_key, parse_entry
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.events.alerts.chain import read_alert
from imgpipeline.events.alerts.numbered import create_object, read_object
from imgpipeline.objectstore import ObjectStore


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody has seen an alert."""

    by: str
    """Who."""
    at: datetime
    """When, UTC."""
    note: str
    """What they noted; may be empty."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Acknowledgement":
        """Reads what `acknowledge` wrote."""
        return cls(str(data["by"]), parse_time(data["at"]), str(data["note"]))


def acknowledge(store: ObjectStore, number: int, given: Acknowledgement) -> None:
    """Adds an acknowledgement to an alert; earlier ones stay.

    Raises:
        UsageError: There is no alert of this number.
        PermanentError: The alert is damaged.
        TransientError: The store does not answer.
    """
    read_alert(store, number)
    prefix, writer = acknowledgements_prefix(number), uuid4().hex
    entry = max(_entries(store, number), default=0) + 1
    content = {"by": given.by, "at": format_time(given.at), "note": given.note, "writer": writer}
    while not create_object(store, entry_key(prefix, entry), content):
        entry += 1


def read_acknowledgements(store: ObjectStore, number: int) -> list[Acknowledgement]:
    """Returns the acknowledgements of an alert, in the order in which they were given.

    Raises:
        PermanentError: One is damaged.
        TransientError: The store does not answer.
    """
    prefix = acknowledgements_prefix(number)
    return [
        Acknowledgement.from_json(read_object(store, entry_key(prefix, entry))) for entry in _entries(store, number)
    ]


def _entries(store: ObjectStore, number: int) -> list[int]:
    found = (parse_entry(info.key) for info in store.list_objects(acknowledgements_prefix(number)))
    return sorted(entry for entry in found if entry is not None)
