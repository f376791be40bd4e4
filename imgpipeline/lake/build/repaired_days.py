"""Rebuilds the days of a ledger repair and their summaries.

A repaired segment covers the same offsets with other outcomes. No end has moved, so without this, the tables of its
days would count as current.
"""

from datetime import date, datetime

from imgpipeline.contracts.keys import ChainId, audit_state_key, summary_key
from imgpipeline.lake.build.day_tables import list_days, rebuild_day
from imgpipeline.lake.build.summaries import SUMMARIES, build_summary
from imgpipeline.lake.schema import DAY_TABLES
from imgpipeline.lake.storage.engine import BuildLimits
from imgpipeline.lake.storage.manifest import read_manifest
from imgpipeline.ledger.repair.days_to_build import read_notes
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_TABLES = tuple(table.name for table in DAY_TABLES)


def build_noted_days(store: ObjectStore, *, settings: Settings, now: datetime) -> list[date]:
    """Rebuilds the tables and summaries of all noted days, also of repairs that died.

    Days without tables are left out: their first build reads the repaired ledger.

    Args:
        store: The object store.
        settings: Those that summaries read.
        now: What the manifests say as the time of building.

    Returns:
        The days that were built.

    Raises:
        LedgerError: A segment cannot be read: mend that first.
        PermanentError: A stored table is not a Parquet file of this project, or the local disk is full.
        TransientError: The store does not answer, or the build lost the write race repeatedly.
    """
    notes = read_notes(store)
    days = sorted({day for noted in notes.values() for day in noted})
    built = [day for day in days if any(read_manifest(store, table, day) for table in _TABLES)]
    for day in built:
        rebuild_day(store, day, force=True, now=now, limits=BuildLimits.of(settings))
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
