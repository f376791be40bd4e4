"""From segments to rows: the frames of whole days as a DuckDB table.

Owns the one place where metadata documents are parsed in bulk, and the rule which of several frames with one
`frame_id` counts. It promises that DuckDB reads what Python wrote: text, numbers and times survive unchanged. Where
segments come from belongs to `ledger`; what is done with the rows to the modules beside.
"""

from collections.abc import Iterable
from datetime import date
from hashlib import sha256
from pathlib import Path

from imgpipeline.lake.engine import Engine, disk_errors, identifier
from imgpipeline.lake.tables import DETECTIONS, FRAMES, SCHEMA_VERSION, Column, Table
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

KEEP_UNIQUE = """
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

FRAME_ROWS = f"SELECT {', '.join(identifier(name) for name in FRAMES.names)} FROM found"  # noqa: S608 - own names
"""The rows of the table `frames`."""
DETECTION_ROWS = f"""
SELECT {", ".join(f"{_OF_DETECTION.get(n, identifier(n))} AS {identifier(n)}" for n in DETECTIONS.names)}
FROM (SELECT * EXCLUDE (detections), unnest(detections) AS detection,
             generate_subscripts(detections, 1) - 1 AS place FROM found) AS found
"""  # noqa: S608 - made of this module's own names
"""The rows of the table `detections`."""


def stored(table: Table) -> str:
    """Returns the columns of a table that its Parquet file has: all but `day`, which readers take from the path."""
    return ", ".join(identifier(name) for name in table.names if name != "day")


RECIPE = sha256(
    repr((SCHEMA_VERSION, _LOAD, KEEP_UNIQUE, FRAME_ROWS, DETECTION_ROWS)).encode()
).hexdigest()[:16]  # fmt: skip
"""Hash of the SQL that makes the day tables: another one means that they are to be built again."""


def create_found(engine: Engine) -> None:
    """Creates the empty table `found`: the columns of `frames`, and each frame's list of detections."""
    columns = [f"{identifier(column.name)} {column.duckdb_type}" for column in FRAMES.columns]
    engine.run(f"CREATE OR REPLACE TABLE found ({', '.join(columns)}, detections {_DETECTION_TYPE})")


def load_frames(engine: Engine, segments: Iterable[tuple[date, Segment]]) -> None:
    """Fills the table `found` with the frames of some days, duplicates included.

    Args:
        engine: DuckDB with a folder for the spooled lines.
        segments: Days, each with a segment that touches it; of the segment only the frames of that day are taken.

    Raises:
        LedgerError: A segment cannot be read (raised by the iterable).
        PermanentError: A line cannot be parsed, or the disk is full.
    """
    create_found(engine)
    with disk_errors(engine.folder):
        folder = engine.folder / "spooled"
        folder.mkdir(exist_ok=True)
        spooled, longest = _spool(folder, segments)
        if spooled:
            engine.run("CREATE OR REPLACE TABLE spooled (filename VARCHAR, day DATE, topic_id VARCHAR)")
            engine.run(
                "INSERT INTO spooled SELECT unnest(?), unnest(?), unnest(?)", [*map(list, zip(*spooled, strict=True))]
            )
            engine.run(_LOAD, {"files": [row[0] for row in spooled], "longest": longest})
            engine.run("DROP TABLE spooled")
        for path, _, _ in spooled:
            Path(path).unlink()


def _spool(folder: Path, segments: Iterable[tuple[date, Segment]]) -> tuple[list[tuple[str, date, str]], int]:
    """Writes the lines of each day and chain into a file; answers the files, and a bound for the longest line."""
    spooled: list[tuple[str, date, str]] = []
    longest, last, file = _LEAST_LINE_BYTES, None, None
    try:
        for day, segment in segments:
            header = segment.header
            if not header.frames + header.gated:
                continue
            if (day, header.chain) != last:
                last = (day, header.chain)
                if file:
                    file.close()
                path = folder / f"{len(spooled):08d}.jsonl"
                file = path.open("wb")
                spooled.append((str(path), day, header.chain.topic_id))
            if file:
                file.write(segment.body)
            if len(segment.body) > longest:
                longest = max(longest, *(len(line) + 1 for line in segment.body.split(b"\n")))
    finally:
        if file:
            file.close()
    return spooled, longest
