"""Acknowledgements of alerts: who has seen an alert, when, and what they noted."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imgpipeline.contracts.keys import acknowledgements_prefix
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.events.alerts.chain import read_alert
from imgpipeline.events.alerts.numbered import append_entry, read_entries
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
    content = {"by": given.by, "at": format_time(given.at), "note": given.note}
    append_entry(store, acknowledgements_prefix(number), content)


def read_acknowledgements(store: ObjectStore, number: int) -> list[Acknowledgement]:
    """Returns the acknowledgements of an alert, in the order in which they were given.

    Raises:
        PermanentError: One is damaged.
        TransientError: The store does not answer.
    """
    return [Acknowledgement.from_json(entry) for entry in read_entries(store, acknowledgements_prefix(number))]
