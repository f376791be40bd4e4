"""The rows of day tables: read whole from the ledger, or stored rows with newer outcomes laid over them.

Frames with the same `frame_id` on one day compete by the same rule in both cases, so both give the same rows. The
overlay costs requests for the new segments only. Query sessions use it too.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key
from imgpipeline.lake.build.ledger_rows import ROWS, keep_unique, load_outcomes, sort_by_time
from imgpipeline.lake.schema import (
    DAY_TABLES,
    DETECTIONS,
    FRAMES,
    NOTICES,
    STORED_DEAD_LETTERS,
    WEAK_DETECTIONS,
    Table,
)
from imgpipeline.lake.storage.engine import Engine, disk_errors, identifier, rows_with_days
from imgpipeline.lake.storage.manifest import Stored
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.ledger import read_day
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

WORKING = "working"
"""DuckDB schema of internal tables, so that SHOW TABLES does not list them."""
_SAME_FRAME = "stored.day = newer.day AND stored.frame_id = newer.frame_id"
_SAME_OUTCOME = " AND ".join(
    f"stored.{name} = found.{name}"
    for name in ("day", "frame_id", *(name for name in FRAMES.names if name.startswith("source_kafka_")))
)
_OFFSET = ("topic", "topic_id", "partition", "kafka_offset")
_SAME_OFFSET = " AND ".join(f'stored."{name}" = newer."{name}"' for name in _OFFSET)
_BY_OFFSET = (STORED_DEAD_LETTERS, NOTICES)
"""Tables with one row per offset."""
_ORDER = {
    FRAMES.name: '"timestamp", frame_id',
    DETECTIONS.name: '"timestamp", frame_id, detection_number',
    WEAK_DETECTIONS.name: '"timestamp", frame_id, detection_number',
    STORED_DEAD_LETTERS.name: "topic, topic_id, partition, kafka_offset",
    NOTICES.name: "topic, topic_id, partition, kafka_offset",
}
"""The order of each table's rows, as in `ROWS` after `sort_by_time`."""


def create_stored(engine: Engine, table: Table, paths: Sequence[Path]) -> None:
    """Creates the view `stored_{table}` over files below `day=…` folders; without files, an empty table."""
    if paths:
        rows = f"SELECT {_columns(table)} FROM {rows_with_days(paths)} AS stored"  # noqa: S608 - own names
        engine.run(f"CREATE VIEW stored_{table.name} AS {rows}")
    else:
        engine.run(f"CREATE TABLE stored_{table.name} ({table.typed_columns})")


@dataclass(frozen=True, slots=True)
class Overlay:
    """The rows of stored tables and newer segments together."""

    frames: int
    """Number of different frames in the newer segments."""
    met: int
    """How many of them are also stored, so that two outcomes compete."""

    def rows(self, table: Table) -> str:
        """Returns the query for a day table including the newer outcomes."""
        newer = f"UNION ALL SELECT * FROM {WORKING}.newer_{table.name}"  # noqa: S608 - own names
        stored = f"SELECT {_columns(table)} FROM {WORKING}.stored_{table.name} AS stored"  # noqa: S608 - own names
        if table in _BY_OFFSET:
            return f"{stored} ANTI JOIN {WORKING}.newer_{table.name} AS newer ON {_SAME_OFFSET} {newer}"
        # A build stores `weak_detections` first, so it may cover more than `frames`.
        if self.met or (self.frames and table is WEAK_DETECTIONS):
            return f"{stored} ANTI JOIN {WORKING}.newer_frame_ids AS newer ON {_SAME_FRAME} {newer}"
        return f"{stored} {newer}" if self.frames else stored


def lay_over(engine: Engine) -> Overlay:
    """Chooses between newer outcomes and stored rows of the same frames.

    Reads `found`, `buried`, `noticed` and `weakened` (filled by `load_outcomes`) and the views `stored_…`. Creates
    `newer_frame_ids` (the frames in newer segments) and, for each day table, `newer_{table}` with the rows that replace
    or extend the stored ones.
    """
    engine.run("CREATE TABLE newer_frame_ids AS SELECT DISTINCT day, frame_id FROM found")
    frames, newer = engine.value("SELECT count(*) FROM newer_frame_ids"), engine.value("SELECT count(*) FROM found")
    met = 0
    if frames:
        engine.run(
            f"INSERT INTO found SELECT {_columns(FRAMES)}, NULL FROM stored_frames AS stored "  # noqa: S608 - own names
            f"SEMI JOIN newer_frame_ids AS newer ON {_SAME_FRAME} WHERE stored.day IN (SELECT day FROM newer_frame_ids)"
        )
        met = engine.value("SELECT count(*) FROM found") - newer
        keep_unique(engine)
    for table in (*DAY_TABLES, WEAK_DETECTIONS):
        engine.run(f"CREATE TABLE newer_{table.name} AS {ROWS[table.name]}")
    for table in (DETECTIONS, WEAK_DETECTIONS) if met else ():
        kept = f"SELECT {_columns(table)} FROM stored_{table.name} AS stored"  # noqa: S608 - own names
        chosen = "SEMI JOIN (SELECT * FROM found WHERE detections IS NULL) AS found"
        engine.run(f"INSERT INTO newer_{table.name} {kept} {chosen} ON {_SAME_OUTCOME}")
    return Overlay(frames, met)


def _columns(table: Table) -> str:
    return ", ".join(f"stored.{identifier(name)}" for name in table.names)


@dataclass(frozen=True, slots=True)
class DayRows:
    """The rows that a build writes."""

    queries: Mapping[str, str]
    """An ordered query for each day table, by name, over tables of the engine."""
    duplicates: int
    """Number of further outcomes of the same frames, which are left out."""


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
        before: Manifest and version of each stored day table, all with one recipe and set of ends.
        ends: Up to which end each chain is read.
        buckets: The day's entries of the index.

    Returns:
        The rows of both; None if a stored table was replaced meanwhile.

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
        create_stored(engine, table, [paths[table.name]] if table.name in paths else [])
    overlay = lay_over(engine)
    stored = before[FRAMES.name].manifest
    added = engine.value("SELECT count(*) FROM found") - overlay.met
    return DayRows(_queries(engine, overlay), stored.duplicates + newer - added)


def _fetch(engine: Engine, store: ObjectStore, day: date, before: Mapping[str, Stored]) -> dict[str, Path] | None:
    """Fetches the stored tables, each below a `day=…` folder; None if one was replaced."""

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
    """Tells whether every newer frame is later than every stored one, so that appending keeps the order."""
    first, last = engine.run(
        'SELECT (SELECT min("timestamp") FROM found), (SELECT max("timestamp") FROM stored_frames)'
    )[0]
    return not overlay.met and (first is None or last is None or first > last)
