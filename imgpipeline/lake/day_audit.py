"""Comparing the day tables and summaries with the ledger.

Owns the comparison of one day and of one summary. It promises to count by queries of its own where a count is claimed
(distinct frames, detections of the chosen frames), and to compare every column of every row where the rows were made by
the SQL of this release. Which days are compared belongs to `audit`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import duckdb

from imgpipeline.contracts.keys import ChainId, day_table_key, summary_key
from imgpipeline.errors import LedgerError, PermanentError
from imgpipeline.lake.audit_report import DayFigures, SummaryAudit
from imgpipeline.lake.engine import Engine, all_rows, disk_errors, lock, open_engine
from imgpipeline.lake.manifest import Manifest, parse_footer
from imgpipeline.lake.outcomes import DETECTION_ROWS, FRAME_ROWS, KEEP_UNIQUE, RECIPE, load_frames, stored
from imgpipeline.lake.tables import DETECTIONS, FRAMES, Table
from imgpipeline.ledger import Segment, read_day
from imgpipeline.objectstore import Fetched, ObjectMissingError, ObjectStore

_ROWS = {FRAMES.name: FRAME_ROWS, DETECTIONS.name: DETECTION_ROWS}
_CHOSEN = """
SELECT coalesce(sum(len(chosen)), 0)::BIGINT FROM (
    SELECT first(detections ORDER BY status <> 'processed', source_kafka_topic, source_kafka_partition,
                 source_kafka_offset, source_kafka_topic_id) AS chosen
    FROM found GROUP BY frame_id)
"""


@dataclass(frozen=True, slots=True)
class DayComparison:
    """How a day's tables and the ledger compare."""

    figures: DayFigures
    """What was counted."""
    versions: str
    """Versions of both tables; empty where one of them is missing."""
    problems: tuple[str, ...]
    """Rows that differ, objects that cannot be read."""


@dataclass(frozen=True, slots=True)
class DayReader:
    """Reads the ledger of one day."""

    store: ObjectStore
    """The object store."""
    day: date
    """UTC day."""
    step: Callable[[], None]
    """Called for each segment."""

    def load(self, engine: Engine, ends: Mapping[ChainId, int]) -> None:
        """Loads the frames of the day up to some ends into the table `found`, duplicates included.

        The day's index is listed now: after the ends, which are those of a manifest that may just have been put.
        """
        load_frames(engine, self._read(ends))

    def _read(self, ends: Mapping[ChainId, int]) -> Iterator[tuple[date, Segment]]:
        for segment in read_day(self.store, self.day, ends):
            self.step()
            yield self.day, segment


def compare_day(reader: DayReader) -> DayComparison:
    """Compares both tables of a day with the ledger up to the ends of their manifests.

    Raises:
        TransientError: The store does not answer.
    """
    found: dict[str, int | None] = {}
    problems: list[str] = []
    versions: list[str] = []
    with open_engine() as engine:
        loaded: Mapping[ChainId, int] | None = None
        for table in (FRAMES, DETECTIONS):
            key = day_table_key(table.name, reader.day)
            try:
                fetched = reader.store.fetch(key)
            except ObjectMissingError:
                continue
            versions.append(fetched.e_tag)
            names = (f"{table.name}_in_ledger", f"{table.name}_in_parquet", f"{table.name}_duplicates")
            found |= dict.fromkeys(names)
            try:
                manifest = parse_footer(fetched.data, key)
                found |= _count_stored(engine, table, fetched)
                if loaded != manifest.ends:
                    reader.load(engine, manifest.ends)
                    loaded = manifest.ends
                    counted = _count_found(engine)
                    engine.run(KEEP_UNIQUE)
                found[names[0]] = counted[table.name]
                problems += _compare_rows(engine, table, manifest, key)
            except (LedgerError, PermanentError) as error:
                problems.append(f"{reader.day}: {error.message}")
    duplicates = [found.pop(f"{table.name}_duplicates", 0) for table in (FRAMES, DETECTIONS)]
    figures = DayFigures(**found, duplicates=None if None in duplicates else sum(n for n in duplicates if n))
    return DayComparison(figures, " ".join(versions) if len(versions) == 2 else "", tuple(problems))


def _count_stored(engine: Engine, table: Table, fetched: Fetched) -> dict[str, int | None]:
    path = engine.folder / f"audited-{table.name}.parquet"
    with disk_errors(engine.folder):
        path.write_bytes(fetched.data)
    # Into a table: a damaged page is found here, and not in the middle of a comparison.
    engine.run(f"CREATE OR REPLACE TABLE audited_{table.name} AS {all_rows(path)}")
    with disk_errors(engine.folder):
        path.unlink()
    unique = "frame_id" if table is FRAMES else "(frame_id, detection_number)"
    rows, distinct = engine.run(f"SELECT count(*), count(DISTINCT {unique}) FROM audited_{table.name}")[0]  # noqa: S608 - own names
    kept = distinct if table is FRAMES else rows
    return {f"{table.name}_in_parquet": kept, f"{table.name}_duplicates": rows - distinct}


def _count_found(engine: Engine) -> dict[str, int]:
    """Counts without the rule that the tables are built by."""
    frames: int = engine.value("SELECT count(DISTINCT frame_id) FROM found")
    detections: int = engine.value(_CHOSEN)
    return {FRAMES.name: frames, DETECTIONS.name: detections}


def _compare_rows(engine: Engine, table: Table, manifest: Manifest, key: str) -> Iterable[str]:
    if manifest.made_by != RECIPE:
        return
    expected = f"SELECT {stored(table)} FROM ({_ROWS[table.name]})"  # noqa: S608 - own names
    actual = f"SELECT {stored(table)} FROM audited_{table.name}"  # noqa: S608 - own names
    # Sums of hashes first: they take a tenth of the time of the comparison that names the rows.
    sums = [engine.run(f"SELECT count(*), sum(hash(r)::HUGEINT) FROM ({rows}) AS r") for rows in (expected, actual)]  # noqa: S608 - own names
    if sums[0] == sums[1]:
        return
    for one, other, what in ((expected, actual, "lacks"), (actual, expected, "has")):
        rows = engine.run(f"SELECT count(*), min(frame_id) FROM ({one} EXCEPT ALL {other})")[0]  # noqa: S608 - own names
        if rows[0]:
            yield f"{key} {what} {rows[0]} rows {_than(what)} the ledger, such as frame {rows[1]}."


def _than(what: str) -> str:
    return "that are in" if what == "lacks" else "that are not in"


def compare_summary(reader: DayReader, name: str) -> SummaryAudit:
    """Makes a stored summary again, by the query that its manifest names, and compares.

    It is made of the detections it was made of: the stored ones, or where those were replaced since, the ledger's up to
    the same ends.

    Raises:
        ObjectMissingError: There is no such summary.
        TransientError: The store does not answer.
    """
    day, key = reader.day, summary_key(name, reader.day)
    summary = reader.store.fetch(key)
    stale = True
    try:
        manifest = parse_footer(summary.data, key)
        with open_engine() as engine:
            stale = not _prepare_detections(engine, reader, manifest)
            different = _remake(engine, manifest.sql, summary)
    except (LedgerError, PermanentError) as error:
        return SummaryAudit(name, day, False, stale, f"{key}: {error.message}")
    problem = f"{key} has {different} rows that differ when it is made again." if different else None
    return SummaryAudit(name, day, problem is None, stale, problem)


def _prepare_detections(engine: Engine, reader: DayReader, manifest: Manifest) -> bool:
    """Creates `detections` as the summary saw them; answers whether those are the stored ones of now."""
    try:
        fetched = reader.store.fetch(day_table_key(DETECTIONS.name, reader.day))
    except ObjectMissingError:
        fetched = Fetched(b"", "")
    if fetched.e_tag == manifest.made_of:
        path = engine.folder / "summarised.parquet"
        with disk_errors(engine.folder):
            path.write_bytes(fetched.data)
        engine.run(f"CREATE TABLE detections AS {all_rows(path, day=reader.day)}")
        return True
    reader.load(engine, manifest.ends)
    engine.run(KEEP_UNIQUE)
    engine.run(f"CREATE TABLE detections AS {DETECTION_ROWS}")
    return False


def _remake(engine: Engine, sql: str, summary: Fetched) -> int:
    """Answers how many rows differ. The query comes from the store: it can do no more than read these tables."""
    path = engine.folder / "summary.parquet"
    with disk_errors(engine.folder):
        path.write_bytes(summary.data)
    engine.run(f"CREATE TABLE summary AS {all_rows(path)}")
    lock(engine)
    if [statement.type for statement in engine.connection.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
        raise PermanentError("its manifest names no query.")
    engine.run(f"CREATE TABLE again AS {sql}")
    engine.run("ALTER TABLE again DROP COLUMN day")
    differences = ("SELECT * FROM again EXCEPT ALL SELECT * FROM summary",
                   "SELECT * FROM summary EXCEPT ALL SELECT * FROM again")  # fmt: skip
    return max(int(engine.value(f"SELECT count(*) FROM ({rows})")) for rows in differences)  # noqa: S608 - own names
