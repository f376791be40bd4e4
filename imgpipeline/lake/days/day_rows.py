"""The rows of day tables: outcomes of the ledger as rows, and stored rows with newer outcomes laid over them.

Frames with the same `frame_id` on one day compete by the same rule in both cases, so both give the same rows. The
overlay costs requests for the new segments only. Query sessions use it too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key
from imgpipeline.lake.schema.tables import (
    DAY_TABLES,
    DETECTIONS,
    FRAMES,
    NOTICES,
    SCHEMA_VERSION,
    STORED_DEAD_LETTERS,
    WEAK_DETECTIONS,
    Column,
    Table,
)
from imgpipeline.lake.storage.engine import Engine, disk_errors, identifier, rows_with_days
from imgpipeline.lake.storage.manifest import Stored
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.ledger.days import read_day
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_NOT_IN_DOCUMENT = ("day", "source_kafka_topic_id")
_DETECTION_TYPE = "STRUCT(label VARCHAR, class_id INTEGER, confidence DOUBLE, box DOUBLE[], detector INTEGER)[]"
_BUFFER_BYTES = 2**20
"""Write buffer of a spooled file; large, because each real write waits for the threads that read ahead."""
_LEAST_LINE_BYTES = 2**24
"""DuckDB's default limit for one line. It is raised only for longer lines, because a buffer has twice that size."""


def _document_type() -> str:
    fields = [f"{identifier(c.name)} {_read_as(c)}" for c in FRAMES.columns if c.name not in _NOT_IN_DOCUMENT]
    return f"STRUCT({', '.join(fields)}, detections {_DETECTION_TYPE})"


def _read_as(column: Column) -> str:
    return "JSON" if column.name == "attributes" else column.duckdb_type


def _selected(column: Column) -> str:
    if column.name == "day":
        return 'CAST(frame."timestamp" AS DATE) AS day'
    if column.name == "source_kafka_topic_id":
        return "spooled.topic_id AS source_kafka_topic_id"
    return f"CAST(frame.{identifier(column.name)} AS {column.duckdb_type}) AS {identifier(column.name)}"


_LOAD = f"""
INSERT INTO found
SELECT {", ".join(_selected(column) for column in FRAMES.columns)}, frame.detections
FROM read_json($files, format = 'newline_delimited', filename = true, maximum_object_size = $longest,
               columns = {{frame: '{_document_type()}'}}) AS read
JOIN spooled ON spooled.found = read.filename
WHERE frame IS NOT NULL AND CAST(frame."timestamp" AS DATE) = spooled.day
"""  # noqa: S608 - made of this module's own names

_WEAK_KEY = ("source_kafka_topic", "source_kafka_topic_id", "source_kafka_partition", "source_kafka_offset")
_LOAD_WEAK = f"""
INSERT INTO weakened
SELECT frame.source_kafka_topic, spooled.topic_id, frame.source_kafka_partition, frame.source_kafka_offset,
       frame.weak_detections
FROM read_json($files, format = 'newline_delimited', filename = true, maximum_object_size = $longest,
               columns = {{frame: 'STRUCT(source_kafka_topic VARCHAR, source_kafka_partition INTEGER,
               source_kafka_offset BIGINT, "timestamp" TIMESTAMPTZ, weak_detections {_DETECTION_TYPE})'}}) AS read
JOIN spooled ON spooled.weakened = read.filename
WHERE CAST(frame."timestamp" AS DATE) = spooled.day AND frame.source_kafka_offset >= spooled.since
"""  # noqa: S608 - made of this module's own names
_OF_CHAIN = ("topic", "topic_id", "partition")
_IN_DOCUMENT = {"kafka_offset": "offset", "interval_start": "from", "interval_end": "to"}
"""Columns with another name in the documents of dead letters and notices."""


def _load_single(kind: str, table: Table, into: str, day: str) -> str:
    """Returns the statement that loads outcomes with one row each, in the order of their offsets."""
    read = [c for c in table.columns if c.name not in _OF_CHAIN and (c.name != "day" or day == f"{kind}.day")]
    fields = ", ".join(f"{identifier(_IN_DOCUMENT.get(c.name, c.name))} {_read_as(c)}" for c in read)
    selected = {c.name: f"{kind}.{identifier(_IN_DOCUMENT.get(c.name, c.name))}::{c.duckdb_type}" for c in read}
    selected |= {name: f"spooled.{identifier(name)}" for name in _OF_CHAIN} | {"day": day}
    return f"""
INSERT INTO {into}
SELECT {", ".join(f"{selected[name]} AS {identifier(name)}" for name in table.names)}
FROM read_json($files, format = 'newline_delimited', filename = true, maximum_object_size = $longest,
               columns = {{{kind}: 'STRUCT({fields})'}}) AS read
JOIN spooled ON spooled.{into} = read.filename
WHERE {kind} IS NOT NULL AND {day} = spooled.day AND {kind}."offset" >= spooled.since
ORDER BY spooled.topic, spooled.topic_id, spooled.partition, {kind}."offset"
"""  # noqa: S608 - made of this module's own names


_LOAD_LETTERS = _load_single("dead_letter", STORED_DEAD_LETTERS, "buried", "dead_letter.day")
_LOAD_NOTICES = _load_single("notice", NOTICES, "noticed", 'CAST(notice."from" AS DATE)')
_NEW_FRAMES = "AND frame.source_kafka_offset >= spooled.since\n"
"""Not part of the recipe, since a build of a whole day reads from offset 0."""
_MARKS = {"buried": b'{"dead_letter"', "noticed": b'{"notice"'}
"""Prefixes of the lines of dead letters and notices."""
_WEAK_MARK = b'"weak_detections":['
"""Part of each frame line with weak detections. A producer's attributes may contain it too."""
_KEEP_UNIQUE = """
DELETE FROM found WHERE rowid IN (
    SELECT rowid FROM (
        SELECT rowid, row_number() OVER (
            PARTITION BY day, frame_id
            ORDER BY status <> 'processed', source_kafka_topic, source_kafka_partition, source_kafka_offset,
                     source_kafka_topic_id, detections IS NULL) AS place
        FROM found)
    WHERE place > 1)
"""
"""Of several frames of one day with one `frame_id`: processed before gated, then the lowest topic, partition, offset.
The topic id decides only between topics of the same name. Rows without their list of detections come last, which only
matters in a snapshot, where the same outcome may come from a stored table and from the ledger."""

_DETECTOR = "found.detectors[found.detection.detector + 1]"
_OF_DETECTION = {
    "detection_number": "CAST(place AS INTEGER)",
    "label": "found.detection.label",
    "class_id": "found.detection.class_id",
    "confidence": "found.detection.confidence",
    "x": "found.detection.box[1]",
    "y": "found.detection.box[2]",
    "width": "found.detection.box[3]",
    "height": "found.detection.box[4]",
    "model_used": f"coalesce({_DETECTOR}.model, found.model_used)",
    "model_sha256": f"coalesce({_DETECTOR}.sha256, found.model_sha256)",
    "precision": f'coalesce({_DETECTOR}."precision", found.detectors[1]."precision")',
    "confidence_threshold": f"coalesce({_DETECTOR}.confidence_threshold, found.confidence_threshold)",
}

_STEPS_BACK = """
SELECT count(*) FROM (
    SELECT ("timestamp", frame_id) < lag(("timestamp", frame_id)) OVER () AS is_back FROM found)
WHERE is_back
"""

FRAME_ROWS = f"SELECT {', '.join(identifier(name) for name in FRAMES.names)} FROM found"  # noqa: S608 - own names
"""The rows of the table `frames`."""
DETECTION_ROWS = f"""
SELECT {", ".join(f"{_OF_DETECTION.get(n, identifier(n))} AS {identifier(n)}" for n in DETECTIONS.names)}
FROM (SELECT * EXCLUDE (detections), unnest(detections) AS detection,
             generate_subscripts(detections, 1) - 1 AS place FROM found) AS found
"""  # noqa: S608 - made of this module's own names
"""The rows of the table `detections`."""

WEAK_DETECTION_ROWS = f"""
SELECT {", ".join(f"{_OF_DETECTION.get(n, identifier(n))} AS {identifier(n)}" for n in WEAK_DETECTIONS.names)}
FROM (SELECT found.* EXCLUDE (detections), unnest(weakened.detections) AS detection,
             coalesce(len(found.detections), 0) + generate_subscripts(weakened.detections, 1) - 1 AS place
      FROM found JOIN weakened USING ({", ".join(_WEAK_KEY)})
      WHERE found.detections IS NOT NULL) AS found
ORDER BY "timestamp", frame_id, detection_number
"""  # noqa: S608 - made of this module's own names
"""The rows of the table `weak_detections`."""

DEAD_LETTER_ROWS = f"SELECT {', '.join(identifier(name) for name in STORED_DEAD_LETTERS.names)} FROM buried"  # noqa: S608 - own names
"""The rows of the table `dead_letters`: each offset is one."""

NOTICE_ROWS = f"SELECT {', '.join(identifier(name) for name in NOTICES.names)} FROM noticed"  # noqa: S608 - own names
"""The rows of the table `notices`: each offset is one."""

ROWS = {
    FRAMES.name: FRAME_ROWS,
    DETECTIONS.name: DETECTION_ROWS,
    WEAK_DETECTIONS.name: WEAK_DETECTION_ROWS,
    STORED_DEAD_LETTERS.name: DEAD_LETTER_ROWS,
    NOTICES.name: NOTICE_ROWS,
}
"""The rows of each day table, by its name."""


def stored_columns(table: Table) -> str:
    """Returns the columns in a table's Parquet file: all but `day`, which readers take from the path."""
    return ", ".join(identifier(name) for name in table.names if name != "day")


RECIPE = sha256(
    repr((SCHEMA_VERSION, _LOAD, _LOAD_LETTERS, _LOAD_NOTICES, _LOAD_WEAK, _KEEP_UNIQUE, *ROWS.values())).encode()
).hexdigest()[:16]
"""Hash of the SQL that makes the day tables. If it changes, they have another recipe."""


def keep_unique(engine: Engine) -> int:
    """Keeps one row of each `frame_id` in the table `found`, without changing the order.

    Returns:
        The number of deleted rows.
    """
    # Nearly always 0. Two names with equal hashes only cost an unneeded second query.
    rows, names = engine.run("SELECT count(*), count(DISTINCT hash(day, frame_id)) FROM found")[0]
    if rows == names:
        return 0
    engine.run(_KEEP_UNIQUE)
    return int(rows - engine.value("SELECT count(*) FROM found"))


def sort_by_time(engine: Engine) -> None:
    """Sorts the table `found` by time and `frame_id`, so that queries over it return this order.

    This is a separate step so that frames are sorted once for two tables, and so that reading documents, which needs
    most of a small memory, does not also hold a sort.
    """
    if engine.value(_STEPS_BACK):
        engine.run('CREATE TABLE in_order AS FROM found ORDER BY "timestamp", frame_id')
        engine.run("DROP TABLE found")
        engine.run("ALTER TABLE in_order RENAME TO found")


def load_outcomes(engine: Engine, segments: Iterable[Segment], since: Mapping[date, Mapping[ChainId, int]]) -> None:
    """Fills the tables `found` (frames, duplicates included), `buried` (dead letters), `noticed` and `weakened`.

    `weakened` holds the weak detections of each frame as a list.

    Args:
        engine: DuckDB with a folder for the spooled lines.
        segments: Segments that touch these days, each once, those of a chain in order (`read_days`).
        since: The days to load, each with the first offset to load of each chain; default: 0.

    Raises:
        LedgerError: A segment cannot be read (raised by the iterable).
        PermanentError: A line cannot be parsed, or the disk is full.
    """
    engine.run(f"CREATE OR REPLACE TABLE found ({FRAMES.typed_columns}, detections {_DETECTION_TYPE})")
    for name, table in (("buried", STORED_DEAD_LETTERS), ("noticed", NOTICES)):
        engine.run(f"CREATE OR REPLACE TABLE {name} ({table.typed_columns})")
    typed = ", ".join(f"{c.name} {c.duckdb_type}" for c in FRAMES.columns if c.name in _WEAK_KEY)
    engine.run(f"CREATE OR REPLACE TABLE weakened ({typed}, detections {_DETECTION_TYPE})")
    with _spooled(engine, segments, since) as spool:
        loads = {"found": f"{_LOAD}{_NEW_FRAMES}", "buried": _LOAD_LETTERS, "noticed": _LOAD_NOTICES,
                 "weakened": _LOAD_WEAK}  # fmt: skip
        for name, sql in loads.items():
            files = [each.paths[name] for each in spool.files if name in each.paths]
            if files:
                engine.run(sql, {"files": files, "longest": spool.longest_bytes})


@dataclass(slots=True)
class _SpooledFile:
    """The spooled lines of one chain: a file per kind of outcome, by the table that it is loaded into."""

    chain: ChainId
    paths: dict[str, str] = field(default_factory=dict)
    days: set[date] = field(default_factory=set)


@dataclass(slots=True)
class _Spool:
    """The spooled lines of all segments, for DuckDB to read."""

    files: list[_SpooledFile] = field(default_factory=list)
    longest_bytes: int = _LEAST_LINE_BYTES


@contextmanager
def _spooled(
    engine: Engine, segments: Iterable[Segment], since: Mapping[date, Mapping[ChainId, int]]
) -> Iterator[_Spool]:
    """Writes the lines into files, and the table `spooled` with the days to load from each; removes both at the end."""
    with disk_errors(engine.folder):
        folder = engine.folder / "spooled"
        folder.mkdir(exist_ok=True)
        spool = _Spool()
        for number, (chain, group) in enumerate(groupby(segments, lambda segment: segment.header.chain)):
            spool.files.append(_SpooledFile(chain))
            _spool(folder / f"{number:08d}", spool, group)
        engine.run(
            "CREATE OR REPLACE TABLE spooled (found VARCHAR, buried VARCHAR, noticed VARCHAR, weakened VARCHAR, "
            "day DATE, since BIGINT, topic VARCHAR, topic_id VARCHAR, partition INTEGER)"
        )
        rows: list[tuple[object, ...]] = [
            (
                *(f.paths.get(name) for name in ("found", *_MARKS, "weakened")),
                day,
                since[day].get(f.chain, 0),
                f.chain.topic,
                f.chain.topic_id,
                f.chain.partition,
            )
            for f in spool.files
            for day in sorted(f.days & since.keys())
        ]
        if rows:
            columns = ", ".join(["unnest(?)"] * 9)
            engine.run(f"INSERT INTO spooled SELECT {columns}", [*map(list, zip(*rows, strict=True))])
        yield spool
        engine.run("DROP TABLE spooled")
        for path in folder.iterdir():
            path.unlink()


def _is_weak(line: bytes) -> bool:
    return line.startswith(b'{"frame"') and _WEAK_MARK in line


def _spool(path: Path, spool: _Spool, segments: Iterable[Segment]) -> None:
    """Writes the lines of one chain: one file each for frames, dead letters, notices and weak detections."""
    found = spool.files[-1]
    with ExitStack() as files:
        opened: dict[str, BinaryIO] = {}

        def open_for(name: str) -> BinaryIO:
            if name not in opened:
                found.paths[name] = f"{path}.{name}.jsonl"
                opened[name] = files.enter_context(Path(found.paths[name]).open("wb", buffering=_BUFFER_BYTES))
            return opened[name]

        for segment in segments:
            header, body = segment.header, segment.body
            found.days.update(header.days)
            if header.frames + header.gated:
                open_for("found").write(body)
            if _WEAK_MARK in body:
                lines = body.splitlines(keepends=True)
                open_for("weakened").writelines(line for line in lines if _is_weak(line))
            counts = {"buried": header.dead_letters, "noticed": header.notices}
            for name in (name for name, count in counts.items() if count):
                lines = body.splitlines(keepends=True)
                open_for(name).writelines(line for line in lines if line.startswith(_MARKS[name]))
            if len(body) > spool.longest_bytes:
                lengths = (len(line) + 1 for line in body.split(b"\n"))
                spool.longest_bytes = max(spool.longest_bytes, *lengths)


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
