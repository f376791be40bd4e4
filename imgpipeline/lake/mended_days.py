"""Building days again after the ledger below their tables was mended.

A segment that was put anew holds the same offsets, but not the same bytes: it was detected again, or is a gap. No end
has moved, so that the tables of its days would pass for current. Owns the notes that say which days these are. It
promises that a day is noted before the ledger is changed, and stays noted until its tables were built again, whoever
dies in between.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import uuid4

from imgpipeline.contracts.keys import ChainId, audit_state_key, repair_notes_prefix, summary_key
from imgpipeline.lake.day_tables import list_days, rebuild_day
from imgpipeline.lake.manifest import read_manifest
from imgpipeline.lake.summaries import SUMMARIES, build_summary
from imgpipeline.lake.tables import DAY_TABLES
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_TABLES = tuple(table.name for table in DAY_TABLES)


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


def build_noted_days(store: ObjectStore, *, settings: Settings, now: datetime) -> list[date]:
    """Builds the tables and summaries of all noted days again, those of repairs that died too.

    Days without tables are left out: whoever builds them first reads the ledger as it is.

    Args:
        store: The object store.
        settings: Those that summaries read.
        now: What the manifests say as the time of building.

    Returns:
        The days that were built.

    Raises:
        LedgerError: A segment cannot be read: mend that first.
        PermanentError: A stored table is no Parquet file of this project, or the local disk is full.
        TransientError: The store does not answer, or other builds were faster time and again.
    """
    notes = {info.key: store.get(info.key) for info in list(store.list_objects(repair_notes_prefix()))}
    days = sorted({date.fromisoformat(day) for data in notes.values() for day in json.loads(data)})
    built = [day for day in days if any(read_manifest(store, table, day) for table in _TABLES)]
    for day in built:
        rebuild_day(store, day, force=True, now=now)
        for name in SUMMARIES:
            if store.head(summary_key(name, day)):
                build_summary(store, name, day, settings=settings, now=now)
    if notes:
        # What the last audit has counted may no longer be so: the next one reads everything.
        store.delete(audit_state_key())
    for key in notes:
        store.delete(key)
    return built


def named_end(store: ObjectStore, chain: ChainId) -> int:
    """Returns the greatest end of a chain that a day table names: the chain did reach that far; 0 where none does."""
    named = [
        manifest.ends.get(chain, 0)
        for table in _TABLES
        for day in list_days(store, table)
        if (manifest := read_manifest(store, table, day)) is not None
    ]
    return max(named, default=0)
