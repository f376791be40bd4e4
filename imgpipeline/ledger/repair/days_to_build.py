"""Which days a ledger repair has changed and whose tables have not been built again yet.

A repair replaces outcomes before the ends that tables name, so the ends do not show it. A day is noted before the
ledger changes and stays noted until its tables are built again, whichever process dies in between.
"""

import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from uuid import uuid4

from imgpipeline.contracts.keys import repair_notes_prefix
from imgpipeline.objectstore import ObjectMissingError, ObjectStore


@dataclass(slots=True)
class DaysToBuild:
    """The days of one repair."""

    store: ObjectStore
    """The object store."""
    _key: str = field(default_factory=lambda: f"{repair_notes_prefix()}/{uuid4().hex}.json")
    _noted: set[date] = field(default_factory=set)

    def cover(self, days: Iterable[date]) -> None:
        """Makes sure that days are noted, before the ledger is changed."""
        missing = set(days) - self._noted
        if missing:
            self._noted |= missing
            self.renew()

    def renew(self) -> None:
        """Notes all of its days once more: another repair builds, and takes away, every note that it finds."""
        if self._noted:
            self.store.put(self._key, json.dumps(sorted(day.isoformat() for day in self._noted)).encode())


def read_notes(store: ObjectStore) -> dict[str, list[date]]:
    """Returns the days of each open note, by the note's key."""
    notes = {}
    for info in list(store.list_objects(repair_notes_prefix())):
        with contextlib.suppress(ObjectMissingError):  # its days have just been built
            notes[info.key] = [date.fromisoformat(day) for day in json.loads(store.get(info.key))]
    return notes


def noted_days(store: ObjectStore) -> set[date]:
    """Returns the days of all open repairs."""
    return {day for days in read_notes(store).values() for day in days}
