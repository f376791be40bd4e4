"""From segments to rows: the frames and dead letters of whole days as DuckDB tables.

Owns the one place where metadata documents are parsed in bulk, and the rule which of several frames with one
`frame_id` counts. It promises that DuckDB reads what Python wrote: text, numbers and times survive unchanged. Where
segments come from belongs to `ledger`; what is done with the rows to the modules beside.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from itertools import groupby
from pathlib import Path

from imgpipeline.contracts.keys import ChainId
from imgpipeline.lake.engine import Engine, disk_errors, identifier
from imgpipeline.lake.tables import DETECTIONS, FRAMES, SCHEMA_VERSION, STORED_DEAD_LETTERS, Column, Table
from imgpipeline.ledger import Segment

_NOT_IN_DOCUMENT = ("day", "source_kafka_topic_id")
_DETECTION_TYPE = "STRUCT(label VARCHAR, class_id INTEGER, confidence DOUBLE, box DOUBLE[])[]"
_LEAST_LINE_BYTES = 2**24
"""DuckDB's own limit for one line; it is raised only where a segment could hold a longer one (a buffer is twice it)."""


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
JOIN spooled ON spooled.filename = read.filename
WHERE frame IS NOT NULL AND CAST(frame."timestamp" AS DATE) = spooled.day
"""  # noqa: S608 - made of this module's own names

_IN_LETTER = [c for c in STORED_DEAD_LETTERS.columns if c.name not in ("topic", "topic_id", "partition")]
_LETTER_TYPE = f"STRUCT({', '.join(f'{identifier(c.name)} {c.duckdb_type}' for c in _IN_LETTER)})"
_LOAD_LETTERS = f"""
INSERT INTO buried
SELECT {
    ", ".join(
        f"{'dead_letter' if c in _IN_LETTER else 'spooled'}.{identifier(c.name)}" for c in STORED_DEAD_LETTERS.columns
    )
}
FROM read_json($files, format = 'newline_delimited', filename = true, maximum_object_size = $longest,
               columns = {{dead_letter: '{_LETTER_TYPE}'}}) AS read
JOIN spooled ON spooled.letters = read.filename
WHERE dead_letter.day = spooled.day
"""  # noqa: S608 - made of this module's own names
_LETTERS_IN_ORDER = 'ORDER BY spooled.topic, spooled.topic_id, spooled.partition, dead_letter."offset"\n'
_NEW_FRAMES = "AND frame.source_kafka_offset >= spooled.since\n"
_NEW_LETTERS = 'AND dead_letter."offset" >= spooled.since\n'
"""Not part of the recipe: a build of a day reads from offset 0."""
_LETTER_MARK = b'{"dead_letter"'
"""How the line of a dead letter begins."""
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
The incarnation of the topic only decides between two of one name; that a row without its list of detections comes last
only matters in a snapshot, where one outcome can be there twice: as it was stored, and as the ledger has it."""

_OF_DETECTION = {
    "detection_number": "CAST(place AS INTEGER)",
    "label": "found.detection.label",
    "class_id": "found.detection.class_id",
    "confidence": "found.detection.confidence",
    "x": "found.detection.box[1]",
    "y": "found.detection.box[2]",
    "width": "found.detection.box[3]",
    "height": "found.detection.box[4]",
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

DEAD_LETTER_ROWS = f"SELECT {', '.join(identifier(name) for name in STORED_DEAD_LETTERS.names)} FROM buried"  # noqa: S608 - own names
"""The rows of the table `dead_letters`: each offset is one."""

ROWS = {FRAMES.name: FRAME_ROWS, DETECTIONS.name: DETECTION_ROWS, STORED_DEAD_LETTERS.name: DEAD_LETTER_ROWS}
"""The rows of each day table, by its name."""


def stored(table: Table) -> str:
    """Returns the columns of a table that its Parquet file has: all but `day`, which readers take from the path."""
    return ", ".join(identifier(name) for name in table.names if name != "day")


RECIPE = sha256(
    repr((
        SCHEMA_VERSION, _LOAD, _LOAD_LETTERS + _LETTERS_IN_ORDER, _KEEP_UNIQUE, FRAME_ROWS, DETECTION_ROWS,
        DEAD_LETTER_ROWS,
    )).encode()
).hexdigest()[:16]  # fmt: skip
"""Hash of the SQL that makes the day tables: another one means that they are to be built again."""


def create_found(engine: Engine) -> None:
    """Creates the empty table `found`: the columns of `frames`, and each frame's list of detections."""
    columns = [f"{identifier(column.name)} {column.duckdb_type}" for column in FRAMES.columns]
    engine.run(f"CREATE OR REPLACE TABLE found ({', '.join(columns)}, detections {_DETECTION_TYPE})")


def keep_unique(engine: Engine) -> int:
    """Keeps of the frames with one `frame_id`, in the table `found`, the one that counts; the others' order stays.

    Returns:
        How many were left out.
    """
    # Nearly always there are none. Equal hashes of two names would only cost the second look.
    rows, names = engine.run("SELECT count(*), count(DISTINCT hash(day, frame_id)) FROM found")[0]
    if rows == names:
        return 0
    engine.run(_KEEP_UNIQUE)
    return int(rows - engine.value("SELECT count(*) FROM found"))


def sort_by_time(engine: Engine) -> None:
    """Sorts the table `found` by time and `frame_id`; what is selected from it comes in that order too.

    A step of its own: the frames are sorted once for both of their tables, and while documents are read, which takes
    most of a small memory, nothing else has to be held.
    """
    if engine.value(_STEPS_BACK):
        engine.run('CREATE TABLE in_order AS FROM found ORDER BY "timestamp", frame_id')
        engine.run("DROP TABLE found")
        engine.run("ALTER TABLE in_order RENAME TO found")


def load_outcomes(engine: Engine, segments: Iterable[Segment], since: Mapping[date, Mapping[ChainId, int]]) -> None:
    """Fills the table `found` with the frames of some days, duplicates included, and `buried` with the dead letters.

    Args:
        engine: DuckDB with a folder for the spooled lines.
        segments: Segments that touch these days, each once, those of a chain one after the other (`read_days`).
        since: The days whose outcomes are taken, each with the offset from which a chain is taken; a chain that is not
            named is taken from offset 0.

    Raises:
        LedgerError: A segment cannot be read (raised by the iterable).
        PermanentError: A line cannot be parsed, or the disk is full.
    """
    create_found(engine)
    columns = [f"{identifier(column.name)} {column.duckdb_type}" for column in STORED_DEAD_LETTERS.columns]
    engine.run(f"CREATE OR REPLACE TABLE buried ({', '.join(columns)})")
    with _spooled(engine, segments, since) as spool:
        frames = [each.frames for each in spool.files if each.frames]
        if frames:
            engine.run(f"{_LOAD}{_NEW_FRAMES}", {"files": frames, "longest": spool.longest_bytes})
        letters = [each.letters for each in spool.files if each.letters]
        if letters:
            sql = f"{_LOAD_LETTERS}{_NEW_LETTERS}{_LETTERS_IN_ORDER}"
            engine.run(sql, {"files": letters, "longest": spool.longest_bytes})


@dataclass(slots=True)
class _SpooledFile:
    """The lines of one chain; a path is empty where there are none of its kind."""

    chain: ChainId
    frames: str = ""
    letters: str = ""
    days: set[date] = field(default_factory=set)


@dataclass(slots=True)
class _Spool:
    """Lines of segments in files, for DuckDB to read."""

    files: list[_SpooledFile] = field(default_factory=list)
    longest_bytes: int = _LEAST_LINE_BYTES


@contextmanager
def _spooled(
    engine: Engine, segments: Iterable[Segment], since: Mapping[date, Mapping[ChainId, int]]
) -> Iterator[_Spool]:
    """Writes the lines into files, and the table `spooled` that says which days to take from each; removes both."""
    with disk_errors(engine.folder):
        folder = engine.folder / "spooled"
        folder.mkdir(exist_ok=True)
        spool = _Spool()
        for number, (chain, group) in enumerate(groupby(segments, lambda segment: segment.header.chain)):
            spool.files.append(_SpooledFile(chain))
            _spool(folder / f"{number:08d}", spool, group)
        engine.run(
            "CREATE OR REPLACE TABLE spooled (filename VARCHAR, letters VARCHAR, day DATE, since BIGINT, "
            "topic VARCHAR, topic_id VARCHAR, partition INTEGER)"
        )
        rows = [
            (f.frames, f.letters, day, since[day].get(f.chain, 0), f.chain.topic, f.chain.topic_id, f.chain.partition)
            for f in spool.files
            for day in sorted(f.days & since.keys())
        ]
        if rows:
            columns = ", ".join(["unnest(?)"] * 7)
            engine.run(f"INSERT INTO spooled SELECT {columns}", [*map(list, zip(*rows, strict=True))])
        yield spool
        engine.run("DROP TABLE spooled")
        for path in folder.iterdir():
            path.unlink()


def _spool(path: Path, spool: _Spool, segments: Iterable[Segment]) -> None:
    """Writes the lines of one chain: frames into one file, dead letters into another."""
    found = spool.files[-1]
    with ExitStack() as files:
        frames = letters = None
        for segment in segments:
            header, body = segment.header, segment.body
            found.days.update(header.days)
            if header.frames + header.gated:
                found.frames = f"{path}.jsonl"
                frames = frames or files.enter_context(Path(found.frames).open("wb"))
                frames.write(body)
            if header.dead_letters:
                found.letters = f"{path}.letters.jsonl"
                letters = letters or files.enter_context(Path(found.letters).open("wb"))
                letters.writelines(line for line in body.splitlines(keepends=True) if line.startswith(_LETTER_MARK))
            if len(body) > spool.longest_bytes:
                lines = (len(line) + 1 for line in body.split(b"\n"))
                spool.longest_bytes = max(spool.longest_bytes, *lines)
