"""Days whose tables a build should read as a whole: those that were extended, and those of a ledger repair."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime

from imgpipeline.contracts.keys import ChainId, audit_state_key, parse_day, summary_key
from imgpipeline.lake.days.day_tables import list_days, rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES, build_summary
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES, FRAMES
from imgpipeline.lake.storage.engine import BuildLimits
from imgpipeline.lake.storage.manifest import read_manifest
from imgpipeline.ledger.repair.repair_list import read_notes
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_READERS = 16


def days_to_seal(store: ObjectStore, *, before: date, since: datetime) -> list[date]:
    """Returns the days whose tables were extended by newer segments, so a build should read them whole from the ledger.

    Args:
        store: The object store.
        before: Only days before this one (UTC), which are over.
        since: Only tables that were stored at or after this time.

    Raises:
        PermanentError: A table is not a Parquet file of this project.
        TransientError: The store does not answer.
    """
    put_lately = [info.key for info in store.list_objects(FRAMES.name) if info.last_modified >= since]
    days = sorted(day for key in put_lately if (day := parse_day(key)) and day < before)
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda day: read_manifest(store, FRAMES.name, day), days)
        return [day for day, manifest in zip(days, found, strict=True) if manifest and manifest.is_extended]


def build_noted_days(store: ObjectStore, *, settings: Settings, now: datetime) -> list[date]:
    """Rebuilds the tables and summaries of all days that ledger repairs noted, including killed repairs.

    A repaired segment covers the same offsets with other outcomes. No end has moved, so without this the tables of its
    days would count as current. Days without tables are left out: their first build reads the repaired ledger.

    Args:
        store: The object store.
        settings: Settings of summaries and builds.
        now: Time of the build, for the manifests.

    Returns:
        The rebuilt days.

    Raises:
        LedgerError: A segment cannot be read; repair it first.
        PermanentError: A stored table is not a Parquet file of this project, or the local disk is full.
        TransientError: The store does not answer, or the build lost the write race repeatedly.
    """
    notes = read_notes(store)
    days = sorted({day for noted in notes.values() for day in noted})
    built = [day for day in days if any(read_manifest(store, table, day) for table in DAY_TABLE_NAMES)]
    for day in built:
        rebuild_day(store, day, force=True, now=now, limits=BuildLimits.of(settings))
        for name in SUMMARIES:
            if store.head(summary_key(name, day)):
                build_summary(store, name, day, settings=settings, now=now)
    if notes:
        # The figures of the last audit may be outdated, so the next one reads everything.
        store.delete(audit_state_key())
    for key in notes:
        store.delete(key)
    return built


def named_end(store: ObjectStore, chain: ChainId) -> int:
    """Returns the greatest end of a chain in the manifests of day tables, which the chain once reached; 0 if none."""
    named = [
        manifest.ends.get(chain, 0)
        for table in DAY_TABLE_NAMES
        for day in list_days(store, table)
        if (manifest := read_manifest(store, table, day)) is not None
    ]
    return max(named, default=0)
