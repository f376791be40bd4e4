"""What the manifests of all days say: which were extended by newer segments, and how far a chain once reached."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime

from imgpipeline.contracts.keys import ChainId, parse_day
from imgpipeline.lake.days.day_tables import list_days
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES, FRAMES
from imgpipeline.lake.storage.manifest import read_manifest
from imgpipeline.objectstore import ObjectStore

_READERS = 16


def days_to_seal(store: ObjectStore, *, before: date, since: datetime) -> list[date]:
    """Returns the days whose tables were extended by newer segments, so a build should read them whole from the ledger.

    Only days before `before` (UTC), which are over, with tables that were stored at or after `since`.

    Raises:
        PermanentError: A table is not a Parquet file of this project.
        TransientError: The store does not answer.
    """
    put_lately = [info.key for info in store.list_objects(FRAMES.name) if info.last_modified >= since]
    days = sorted(day for key in put_lately if (day := parse_day(key)) and day < before)
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda day: read_manifest(store, FRAMES.name, day), days)
        return [day for day, manifest in zip(days, found, strict=True) if manifest and manifest.is_extended]


def named_end(store: ObjectStore, chain: ChainId) -> int:
    """Returns the greatest end of a chain in the manifests of day tables, which the chain once reached; 0 if none."""
    named = [
        manifest.ends.get(chain, 0)
        for table in DAY_TABLE_NAMES
        for day in list_days(store, table)
        if (manifest := read_manifest(store, table, day)) is not None
    ]
    return max(named, default=0)
