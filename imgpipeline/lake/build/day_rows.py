"""The rows of one day's tables: read from the ledger as a whole, or added to what is stored.

Both ways give the same rows in the same order. Adding costs requests for the new segments alone, and as much time as
writing the tables again.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key
from imgpipeline.lake.build.ledger_rows import ROWS, keep_unique, load_outcomes, sort_by_time
from imgpipeline.lake.build.overlay import WORKING, Overlay, create_stored, lay_over
from imgpipeline.lake.schema import (
    DAY_TABLES,
    DETECTIONS,
    FRAMES,
    NOTICES,
    SCHEMA_VERSION,
    STORED_DEAD_LETTERS,
    WEAK_DETECTIONS,
)
from imgpipeline.lake.storage.engine import Engine, disk_errors
from imgpipeline.lake.storage.manifest import Stored
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.ledger import read_day
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_ORDER = {
    FRAMES.name: '"timestamp", frame_id',
    DETECTIONS.name: '"timestamp", frame_id, detection_number',
    WEAK_DETECTIONS.name: '"timestamp", frame_id, detection_number',
    STORED_DEAD_LETTERS.name: "topic, topic_id, partition, kafka_offset",
    NOTICES.name: "topic, topic_id, partition, kafka_offset",
}
"""The order of each table's rows, as `ROWS` gives them after `sort_by_time`."""


@dataclass(frozen=True, slots=True)
class DayRows:
    """What a build writes. The engine holds the tables that the queries read."""

    queries: Mapping[str, str]
    """The rows of each day table in their order, by the table's name."""
    duplicates: int
    """Further outcomes of frames that are there already; they are left out."""


def read_whole(
    engine: Engine, store: ObjectStore, day: date, ends: Mapping[ChainId, int], buckets: Sequence[Bucket]
) -> DayRows:
    """Reads a day from the ledger.

    Args:
        engine: DuckDB; gets the tables `found` and `buried`.
        store: The object store.
        day: UTC day.
        ends: Up to which end each chain is read.
        buckets: The day's entries of the index.

    Raises:
        LedgerError: A segment cannot be read, or a chain has a hole.
        PermanentError: The local disk is full.
    """
    load_outcomes(engine, read_day(store, day, ends, buckets=buckets), {day: {}})
    duplicates = keep_unique(engine)
    sort_by_time(engine)
    return DayRows(ROWS, duplicates)


def add_newer(
    engine: Engine,
    store: ObjectStore,
    day: date,
    before: Mapping[str, Stored],
    ends: Mapping[ChainId, int],
    buckets: Sequence[Bucket],
) -> DayRows | None:
    """Adds the segments after the stored tables' ends to the stored tables.

    Args:
        engine: DuckDB; gets the newer outcomes as `found` and `buried`, each frame once.
        store: The object store.
        day: UTC day.
        before: Manifest and version of each stored day table; all of one schema, one recipe and the same ends.
        ends: Up to which end each chain is read.
        buckets: The day's entries of the index.

    Returns:
        The rows of both together; None if a stored table was replaced meanwhile.

    Raises:
        LedgerError: A segment cannot be read, or a chain has a hole.
        PermanentError: The local disk is full.
    """
    paths = _fetch(engine, store, day, before)
    if paths is None:
        return None
    engine.run(f"CREATE SCHEMA {WORKING}")
    engine.run(f"SET search_path = '{WORKING},main'")
    since = before[FRAMES.name].manifest.ends
    load_outcomes(engine, read_day(store, day, ends, since=since, buckets=buckets), {day: since})
    newer = engine.value("SELECT count(*) FROM found")
    sort_by_time(engine)
    for table in (*DAY_TABLES, WEAK_DETECTIONS):
        create_stored(engine, table, {paths[table.name]: SCHEMA_VERSION} if table.name in paths else {})
    overlay = lay_over(engine)
    stored = before[FRAMES.name].manifest
    added = engine.value("SELECT count(*) FROM found") - overlay.met
    return DayRows(_queries(engine, overlay), stored.duplicates + newer - added)


def _fetch(engine: Engine, store: ObjectStore, day: date, before: Mapping[str, Stored]) -> dict[str, Path] | None:
    """Fetches the stored tables below a `day=…` folder each; None if one has another version by now."""

    def fetch(table: str) -> str | None:
        key = day_table_key(table, day)
        with disk_errors(engine.folder):
            paths[table].parent.mkdir(parents=True, exist_ok=True)
            try:
                return fetch_table(store, key, paths[table])
            except ObjectMissingError:
                return None

    paths = {table: engine.folder / day_table_key(table, day) for table in before}
    with ThreadPoolExecutor(len(paths)) as pool:
        versions = list(pool.map(fetch, paths))
    return paths if versions == [stored.e_tag for stored in before.values()] else None


def _queries(engine: Engine, overlay: Overlay) -> dict[str, str]:
    ordered = (
        {STORED_DEAD_LETTERS.name, NOTICES.name, WEAK_DETECTIONS.name} if _continues(engine, overlay) else set(_ORDER)
    )
    queries = {table.name: overlay.rows(table) for table in (*DAY_TABLES, WEAK_DETECTIONS)}
    return {
        name: f"SELECT * FROM ({query}) ORDER BY {_ORDER[name]}" if name in ordered else query  # noqa: S608 - own SQL
        for name, query in queries.items()
    }


def _continues(engine: Engine, overlay: Overlay) -> bool:
    """Tells whether every newer frame comes after every stored one, so that appending keeps the order."""
    first, last = engine.run(
        'SELECT (SELECT min("timestamp") FROM found), (SELECT max("timestamp") FROM stored_frames)'
    )[0]
    return not overlay.met and (first is None or last is None or first > last)
