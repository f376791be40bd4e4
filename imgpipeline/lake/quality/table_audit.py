"""Compares stored day tables and summaries with the ledger, and counts the ledger of days that have no tables yet.

Counts come from separate queries, not from those that build the tables. If the SQL of this release made the rows, every
column of every row is compared. A summary is made again with the queries and settings in its manifest, from the tables
that the manifest names, or from the ledger up to the same ends if those are no longer stored.
"""

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key, summary_key
from imgpipeline.contracts.text import counted
from imgpipeline.errors import LedgerError, PermanentError
from imgpipeline.lake.days.day_rows import RECIPE, ROWS, keep_unique, load_outcomes, stored_columns
from imgpipeline.lake.days.summaries import set_parameters
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.quality.audit_report import DayAudit, DayFigures, SummaryAudit
from imgpipeline.lake.schema.tables import DAY_TABLES, DETECTIONS, FRAMES, NOTICES, STORED_DEAD_LETTERS, Table
from imgpipeline.lake.storage.engine import Engine, all_rows, disk_errors, engine_errors, identifier, lock, open_engine
from imgpipeline.lake.storage.manifest import DamagedObjectError, Manifest, hash_rows, parse_footer, read_stored
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.ledger.days import read_day, read_days
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_OFFSET = "(topic, topic_id, partition, kafka_offset)"
_UNIQUE = {FRAMES.name: "frame_id", DETECTIONS.name: "(frame_id, detection_number)", STORED_DEAD_LETTERS.name: _OFFSET,
           NOTICES.name: _OFFSET}  # fmt: skip
"""The unique key of each table."""
_FRAME = "'frame ' || frame_id"
_SHOWN_OFFSET = "concat_ws('/', 'offset ' || topic, partition, kafka_offset)"
_SHOWN = {FRAMES.name: _FRAME, DETECTIONS.name: _FRAME, STORED_DEAD_LETTERS.name: _SHOWN_OFFSET,
          NOTICES.name: _SHOWN_OFFSET}  # fmt: skip
"""How messages name a row."""
_COUNTS = f"""
WITH chosen AS (
    SELECT day, first(detections ORDER BY status <> 'processed', source_kafka_topic, source_kafka_partition,
                      source_kafka_offset, source_kafka_topic_id) AS detections
    FROM found GROUP BY day, frame_id),
frame_counts AS (SELECT day, count(*) AS frames, sum(len(detections)) AS detections FROM chosen GROUP BY day),
letter_counts AS (SELECT day, count(DISTINCT {_OFFSET}) AS letters FROM buried GROUP BY day),
notice_counts AS (SELECT day, count(DISTINCT {_OFFSET}) AS notices FROM noticed GROUP BY day)
SELECT day, coalesce(frames, 0), coalesce(detections, 0)::BIGINT, coalesce(letters, 0), coalesce(notices, 0)
FROM frame_counts FULL JOIN letter_counts USING (day) FULL JOIN notice_counts USING (day)
"""  # noqa: S608 - own names
_NAME = re.compile(r"[a-z][a-z_]{0,99}")


@dataclass(frozen=True, slots=True)
class DayReader:
    """Reads the ledger of one day."""

    store: ObjectStore
    day: date
    """UTC day."""
    step: Callable[[int], None]
    """Called for each segment."""
    memory: str | None = None

    def load(self, engine: Engine, ends: Mapping[ChainId, int]) -> None:
        """Loads the day up to some ends: frames, with duplicates, into the table `found`, dead letters into `buried`.

        Lists the day's index now, after the ends, which come from a manifest that may be new.
        """
        load_outcomes(engine, _stepped(read_day(self.store, self.day, ends), self.step), {self.day: {}})


def compare_day(reader: DayReader) -> tuple[DayAudit, str]:
    """Compares the tables of a day with the ledger up to the ends of their manifests.

    Returns:
        The audit, as if the tables were not stale, and their e-tags in their order; empty if one of them is missing.

    Raises:
        TransientError: The store does not answer.
    """
    found: dict[str, int | None] = {}
    problems: list[str] = []
    e_tags: list[str] = []
    versions: list[str] = []
    missing: list[str] = []
    counted: Mapping[str, int] = {}
    with open_engine(memory=reader.memory) as engine:
        loaded: Mapping[ChainId, int] | None = None
        for table in DAY_TABLES:
            key, path = day_table_key(table.name, reader.day), engine.folder / f"audited-{table.name}.parquet"
            try:
                with disk_errors(engine.folder):
                    e_tags.append(fetch_table(reader.store, key, path))
            except ObjectMissingError:
                missing.append(table.name)
                continue
            names = (f"{table.name}_in_ledger", f"{table.name}_in_parquet", f"{table.name}_duplicates")
            found |= dict.fromkeys(names)
            try:
                manifest = parse_footer(path, key)
                versions.append(manifest.version)
                found |= _count_stored(engine, table, path)
                if loaded != manifest.ends:
                    reader.load(engine, manifest.ends)
                    loaded = manifest.ends
                    counted = _count_found(engine).get(reader.day, dict.fromkeys(_UNIQUE, 0))
                    keep_unique(engine)
                found[names[0]] = counted[table.name]
                problems += _compare_rows(engine, table, manifest, key)
            except (LedgerError, PermanentError) as error:
                problems.append(f"{reader.day}: {error}")
    duplicates = [found.pop(f"{table.name}_duplicates", 0) for table in DAY_TABLES]
    found |= {f"{name}_in_ledger": counted.get(name) for name in missing}
    figures = DayFigures(**found, duplicates=None if None in duplicates else sum(n for n in duplicates if n))
    read, said = (" ".join(each) if len(each) == len(DAY_TABLES) else "" for each in (e_tags, versions))
    return DayAudit(reader.day, figures, False, tuple(dict.fromkeys(problems)), tuple(missing), said), read


def count_unbuilt(
    store: ObjectStore,
    buckets: Mapping[date, Collection[Bucket]],
    ends: Mapping[ChainId, int],
    step: Callable[[int], None],
    memory: str | None = None,
) -> dict[date, DayAudit]:
    """Counts the ledger's outcomes of days without tables, in one pass over their segments.

    Args:
        buckets: The days, each with its entries of the index.
        ends: Ends of the chains, fixed before the index was listed.
        step: Called for each segment with its number of offsets.

    Returns:
        The counts by day, None if a segment cannot be read.

    Raises:
        TransientError: The store does not answer.
    """
    if not buckets:
        return {}
    since: dict[date, Mapping[ChainId, int]] = {day: {} for day in buckets}
    missing = tuple(_UNIQUE)
    try:
        with open_engine(memory=memory) as engine:
            entries = [bucket for several in buckets.values() for bucket in several]
            load_outcomes(engine, _stepped(read_days(store, since, ends, buckets=entries), step), since)
            counted = _count_found(engine)
    except PermanentError as error:
        if len(buckets) > 1:
            return {day: count_unbuilt(store, {day: buckets[day]}, ends, step, memory)[day] for day in buckets}
        unknown = DayFigures(**dict.fromkeys([f"{name}_in_ledger" for name in missing]))
        return {day: DayAudit(day, unknown, True, (f"{day}: {error}",), missing) for day in buckets}
    rows = {day: {f"{name}_in_ledger": n for name, n in counted.get(day, {}).items()} for day in buckets}
    return {day: DayAudit(day, DayFigures(**rows[day]), True, missing=missing) for day in buckets}


def _stepped(segments: Iterable[Segment], step: Callable[[int], None]) -> Iterator[Segment]:
    for segment in segments:
        step(segment.header.end - segment.header.start)
        yield segment


def _count_stored(engine: Engine, table: Table, path: Path) -> dict[str, int | None]:
    # Loading into a table finds a damaged page here rather than in the middle of a comparison.
    engine.run(f"CREATE OR REPLACE TABLE audited_{table.name} AS {all_rows(path)}")
    with disk_errors(engine.folder):
        path.unlink()
    unique = _UNIQUE[table.name]
    rows, distinct = engine.run(f"SELECT count(*), count(DISTINCT {unique}) FROM audited_{table.name}")[0]  # noqa: S608 - own names
    kept = rows if table is DETECTIONS else distinct
    return {f"{table.name}_in_parquet": kept, f"{table.name}_duplicates": rows - distinct}


def _count_found(engine: Engine) -> dict[date, dict[str, int]]:
    """Counts the outcomes of each day without the SQL that builds the tables."""
    return {day: dict(zip(_UNIQUE, counts, strict=True)) for day, *counts in engine.run(_COUNTS)}


def _compare_rows(engine: Engine, table: Table, manifest: Manifest, key: str) -> Iterable[str]:
    if manifest.made_by != RECIPE:
        return
    expected = f"SELECT {stored_columns(table)} FROM ({ROWS[table.name]})"  # noqa: S608 - own names
    actual = f"SELECT {stored_columns(table)} FROM audited_{table.name}"  # noqa: S608 - own names
    # Comparing hashes takes a tenth of the time of the comparison that finds the rows.
    if hash_rows(engine, expected) == hash_rows(engine, actual):
        return
    for one, other, what in ((expected, actual, "lacks"), (actual, expected, "has")):
        rows = engine.run(f"SELECT count(*), min({_SHOWN[table.name]}) FROM ({one} EXCEPT ALL {other})")[0]  # noqa: S608 - own names
        if rows[0]:
            yield f"{key} {what} {counted(rows[0], 'row')} {_than(what, rows[0])} the ledger, such as {rows[1]}."


def _than(what: str, rows: int) -> str:
    verb = "is" if rows == 1 else "are"
    return f"that {verb} in" if what == "lacks" else f"that {verb} not in"


def compare_summary(reader: DayReader, name: str) -> SummaryAudit:
    """Makes a stored summary again and compares every column of every row.

    Raises:
        ObjectMissingError: There is no such summary.
        TransientError: The store does not answer.
    """
    day, key = reader.day, summary_key(name, reader.day)
    stale = True
    with open_engine(memory=reader.memory) as engine:
        path = engine.folder / "summary.parquet"
        with disk_errors(engine.folder):
            fetch_table(reader.store, key, path)
        try:
            manifest = _checked(parse_footer(path, key))
            engine.run(f"CREATE TABLE summary AS {all_rows(path)}")
            queries = {}
            stale = _current_versions(reader.store, manifest) != manifest.made_of
            if stale or not _open_stored(engine, reader.store, manifest):
                _load_ledger(engine, reader, manifest)
                queries = dict(manifest.queries)
            different = _remake(engine, {**queries, "again": manifest.sql}, manifest.parameters)
        except (LedgerError, PermanentError) as error:
            return SummaryAudit(name, day, False, stale, f"{key}: {error}")
    problem = f"{key} differs in {counted(different, 'row')} when it is rebuilt." if different else None
    return SummaryAudit(name, day, problem is None, stale, problem)


def _checked(manifest: Manifest) -> Manifest:
    """Rejects names that no release has written, because they become parts of keys, paths and SQL."""
    for names, what in (({*manifest.made_of, *manifest.queries}, "table"), (manifest.parameters, "setting")):
        if not all(_NAME.fullmatch(name) for name in names):
            raise PermanentError(f"its manifest contains an invalid name of a {what}.")
    return manifest


def _current_versions(store: ObjectStore, manifest: Manifest) -> dict[str, str]:
    """Returns the current version of each input of a summary; empty if it is gone or cannot be read."""
    versions = dict.fromkeys(manifest.made_of, "")
    for table in versions:
        with contextlib.suppress(DamagedObjectError):
            stored = read_stored(store, stored_key(table, manifest.day))
            versions[table] = stored.manifest.version if stored else ""
    return versions


def _open_stored(engine: Engine, store: ObjectStore, manifest: Manifest) -> bool:
    """Creates the inputs from the stored tables.

    Returns:
        False if one of them has another version now, or other rows than its manifest says.
    """
    for table, version in manifest.made_of.items():
        path, key = engine.folder / f"{table}-read.parquet", stored_key(table, manifest.day)
        try:
            with disk_errors(engine.folder):
                fetch_table(store, key, path)
        except ObjectMissingError:
            return False
        found = parse_footer(path, key)
        if found.version != version or found.content != hash_rows(engine, all_rows(path)):
            return False
    for table in manifest.made_of:
        path = engine.folder / f"{table}-read.parquet"
        engine.run(f"CREATE VIEW {identifier(table)} AS {all_rows(path, day=manifest.day)}")
    return True


def _load_ledger(engine: Engine, reader: DayReader, manifest: Manifest) -> None:
    """Creates the day tables up to the summary's ends from the ledger."""
    reader.load(engine, manifest.ends)
    keep_unique(engine)
    for table, rows in ROWS.items():
        engine.run(f"CREATE TABLE {identifier(table)} AS {rows}")


def _remake(engine: Engine, queries: Mapping[str, str], parameters: Mapping[str, float]) -> int:
    """Returns the number of rows that differ. Queries from the store can only read these tables."""
    set_parameters(engine, parameters)
    lock(engine)
    for name, sql in queries.items():
        with engine_errors():
            statements = engine.connection.extract_statements(sql)
        if [found.type for found in statements] != [duckdb.StatementType.SELECT]:
            raise PermanentError("its manifest contains a statement that is not a single SELECT.")
        engine.run(f"CREATE TABLE {identifier(name)} AS {sql}")
    engine.run("ALTER TABLE again DROP COLUMN day")
    differences = ("SELECT * FROM again EXCEPT ALL SELECT * FROM summary",
                   "SELECT * FROM summary EXCEPT ALL SELECT * FROM again")  # fmt: skip
    return max(int(engine.value(f"SELECT count(*) FROM ({rows})")) for rows in differences)  # noqa: S608 - own names
