"""The columns of every table in the lake: names, types, units, meanings.

Owns the one list that schemas, queries and docs/tables.md are made of (`python -m imgpipeline.lake.tables`). It
promises that the names of `frames` are those of the metadata contract. How tables are filled belongs to the modules
beside.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

SCHEMA_VERSION = 1
"""Written into every manifest; raised when a column is added, removed or changes its meaning."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    """Its name in Parquet and SQL."""
    duckdb_type: str
    """DuckDB's type; times are `TIMESTAMPTZ` in UTC."""
    unit: str
    """Unit or range of its values; empty where it has none."""
    meaning: str
    """What it says, for a person."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table or view of the lake."""

    name: str
    """Its name in SQL, and in keys where it is stored."""
    row: str
    """What one row is."""
    columns: tuple[Column, ...]
    """Its columns, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)


_DAY = Column("day", "DATE", "UTC", "Day of the frame's own time; in Parquet it is part of the path.")
_ORIGIN = (
    Column("source_kafka_topic", "VARCHAR", "", "Kafka topic of the announcement."),
    Column("source_kafka_topic_id", "VARCHAR", "", "Which incarnation of the topic: names the chain of segments."),
    Column("source_kafka_partition", "INTEGER", "from 0", "Kafka partition of the announcement."),
    Column("source_kafka_offset", "BIGINT", "from 0", "Kafka offset of the announcement."),
)
_MODEL = (
    Column("model_used", "VARCHAR", "", "Name of the model in the registry."),
    Column("model_sha256", "VARCHAR", "hexadecimal", "SHA-256 of the model file."),
)

FRAMES = Table(
    "frames",
    "one frame; a frame that was announced several times is there once",
    (
        _DAY,
        Column("frame_id", "VARCHAR", "32 hexadecimal digits", "Names the frame; unique within a day."),
        Column("source", "VARCHAR", "", "The camera, video or folder it came from."),
        Column("timestamp", "TIMESTAMPTZ", "UTC", "The frame's own time; Kafka's where none was announced."),
        Column("frame_number", "BIGINT", "from 0", "Number within the source; NULL where it was not announced."),
        Column("source_image_path", "VARCHAR", "", "`s3://bucket/key`, or a key below the store's prefix."),
        *_ORIGIN,
        Column("processing_timestamp", "TIMESTAMPTZ", "UTC", "When its outcome was ready."),
        Column("image_width", "INTEGER", "pixels", "Width of the original image, upright."),
        Column("image_height", "INTEGER", "pixels", "Height of the original image, upright."),
        Column("size_bytes", "BIGINT", "bytes", "Size of the encoded image."),
        Column("brightness", "DOUBLE", "0 to 255", "Mean luma: 0 is black."),
        Column("sharpness", "DOUBLE", "from 0", "Variance of the Laplacian: larger is sharper."),
        *_MODEL,
        Column("confidence_threshold", "DOUBLE", "0 to 1", "Detections have a confidence above this."),
        Column("nms_threshold", "DOUBLE", "0 to 1", "Overlap (IoU) above which the weaker of two boxes was dropped."),
        Column("orientation", "INTEGER", "1 to 8", "EXIF orientation that was applied; 1 is upright."),
        Column("status", "VARCHAR", "`processed`, `gated`", "Whether a detector looked at it."),
        Column("gate_reason", "VARCHAR", "", "Why it was left out before detection; NULL for a processed frame."),
        Column("replay_of", "VARCHAR", "topic/partition/offset", "The dead letter that it replays, or NULL."),
        Column("attributes", "VARCHAR", "JSON", "What the producer said beside the contract: a JSON object as text."),
    ),
)
"""Day table: `frames/day=…/frames.parquet`."""

DETECTIONS = Table(
    "detections",
    "one object found in one frame",
    (
        _DAY,
        Column("frame_id", "VARCHAR", "32 hexadecimal digits", "The frame it was found in."),
        Column("detection_number", "INTEGER", "from 0", "Its place within the frame, strongest first."),
        Column("source", "VARCHAR", "", "The camera, video or folder."),
        Column("timestamp", "TIMESTAMPTZ", "UTC", "The frame's own time."),
        Column("frame_number", "BIGINT", "from 0", "The frame's number within the source, or NULL."),
        Column("source_image_path", "VARCHAR", "", "The frame's image."),
        *_ORIGIN,
        Column("label", "VARCHAR", "", "Class name, as in the model's list of labels."),
        Column("class_id", "INTEGER", "from 0", "Index of the class in the model's list of labels."),
        Column("confidence", "DOUBLE", "0 to 1", "Score: objectness x class."),
        Column("x", "DOUBLE", "pixels", "Left edge of the box in the original image."),
        Column("y", "DOUBLE", "pixels", "Upper edge of the box in the original image."),
        Column("width", "DOUBLE", "pixels", "Width of the box."),
        Column("height", "DOUBLE", "pixels", "Height of the box."),
        Column("image_width", "INTEGER", "pixels", "Width of the original image, upright."),
        Column("image_height", "INTEGER", "pixels", "Height of the original image, upright."),
        *_MODEL,
        Column("status", "VARCHAR", "`processed`", "The frame's status."),
    ),
)
"""Day table: `detections/day=…/detections.parquet`."""

LABEL_COUNTS = Table(
    "label_counts",
    "one label in one hour",
    (
        Column("day", "DATE", "UTC", "The day; in Parquet it is part of the path."),
        Column("hour", "TIMESTAMPTZ", "UTC", "Begin of the hour."),
        Column("label", "VARCHAR", "", "Class name."),
        Column("count", "BIGINT", "detections", "How many were detected; an object in ten frames counts ten times."),
        Column("distinct_frames", "BIGINT", "frames", "In how many frames."),
        Column("distinct_sources", "BIGINT", "sources", "By how many cameras, videos or folders."),
        Column("first_seen", "TIMESTAMPTZ", "UTC", "Time of the first frame with it."),
        Column("last_seen", "TIMESTAMPTZ", "UTC", "Time of the last frame with it."),
        Column("mean_confidence", "DOUBLE", "0 to 1", "Mean of the confidences, each rounded to 6 decimals."),
    ),
)
"""Summary: `summaries/label_counts/day=…/label_counts.parquet`."""

_CHAIN = (
    Column("topic", "VARCHAR", "", "Kafka topic."),
    Column("topic_id", "VARCHAR", "", "Which incarnation of the topic."),
    Column("partition", "INTEGER", "from 0", "Kafka partition."),
)

DEAD_LETTERS = Table(
    "dead_letters",
    "one offset whose record or image is wrong",
    (
        *_CHAIN,
        Column("offset", "BIGINT", "from 0", "Kafka offset of the record."),
        Column("code", "VARCHAR", "", "Why it could not become a frame."),
        Column("message", "VARCHAR", "", "What was wrong with it."),
        Column("timestamp", "TIMESTAMPTZ", "UTC", "The Kafka record's own time, or NULL."),
        Column("day", "DATE", "UTC", "The day it is listed under; NULL where its time is outside the accepted window."),
        Column("source", "VARCHAR", "", "The source, where the record could be read that far."),
        Column("image_path", "VARCHAR", "", "The announced path, where the record could be read that far."),
        Column("raw_size_bytes", "BIGINT", "bytes", "Size of the record's value."),
        Column("raw_base64", "VARCHAR", "base64", "The record's value; NULL where it was null or larger than is kept."),
        Column("key_base64", "VARCHAR", "base64", "The record's key, or NULL."),
        Column(
            "replay_of", "VARCHAR", "topic/partition/offset", "The dead letter that it is another attempt at, or NULL."
        ),
        Column("headers", "VARCHAR[][]", "name, base64", "The record's headers, or NULL."),
        Column(
            "state",
            "VARCHAR",
            "`open`, `replayed`, `resolved`",
            "What became of it: nothing, a later dead letter "
            "that stands for it, or a frame. In a session of some days only: as the ledger has it for those days.",
        ),
        Column(
            "became", "VARCHAR", "topic/partition/offset", "That later dead letter or frame; NULL while it is open."
        ),
    ),
)
"""View over the ledger; not stored."""

SEGMENTS = Table(
    "segments",
    "one segment of the ledger: the outcomes of the offsets from `start` up to, not including, `end`",
    (
        *_CHAIN,
        Column("start", "BIGINT", "from 0", "First offset it covers."),
        Column("end", "BIGINT", "from 1", "First offset behind it."),
        Column("frames", "BIGINT", "offsets", "Processed frames."),
        Column("gated", "BIGINT", "offsets", "Gated frames."),
        Column("dead_letters", "BIGINT", "offsets", "Dead letters."),
        Column("gaps", "MAP(VARCHAR, BIGINT)", "offsets", "Offsets in gaps, by reason."),
        Column("days", "DATE[]", "UTC", "Days of its frames and dead letters."),
        Column("model_used", "VARCHAR", "", "Name of the model; empty for imports."),
        Column("model_sha256", "VARCHAR", "hexadecimal", "SHA-256 of the model file; empty for imports."),
        Column("settings_hash", "VARCHAR", "", "Hash of the settings that change results."),
        Column("run_id", "VARCHAR", "", "The run that wrote it."),
        Column("writer_id", "VARCHAR", "", "Unique for one attempt to write one segment."),
        Column("created_at", "TIMESTAMPTZ", "UTC", "When it was made."),
        Column("key", "VARCHAR", "", "The segment's object."),
    ),
)
"""View over the ledger; not stored."""

ALL = (FRAMES, DETECTIONS, LABEL_COUNTS, DEAD_LETTERS, SEGMENTS)
"""Every table that a query session offers."""

_INTRODUCTION = """# Tables

What `imgpipeline query` offers, and what lies in the object store as Parquet. This page is made from the code:
`python -m imgpipeline.lake.tables > docs/tables.md`.

`frames` and `detections` are stored as `frames/day=2026-01-09/frames.parquet` and
`detections/day=2026-01-09/detections.parquet`, sorted by time; summaries as
`summaries/label_counts/day=2026-01-09/label_counts.parquet`. Any engine reads them:

```sql
SELECT label, count(*) FROM read_parquet('s3://bucket/prefix/detections/day=*/detections.parquet') GROUP BY label;
```

The column `day` is not in the files but in their paths, as Hive has it; engines add it by themselves.

Each file's footer holds its manifest under the key `imgpipeline`: schema version, a hash of what made it, the covered
end of each chain, when it was built, and how many rows it has. `frames` is put before `detections`; while a day is
being rebuilt the two may have different ends, and each is right for its own. In a query session both show one moment.
"""


def tables_page(tables: Sequence[Table] = ALL) -> str:
    """Returns docs/tables.md."""
    parts = [_INTRODUCTION]
    for table in tables:
        rows = (f"| `{c.name}` | {c.duckdb_type} | {c.unit} | {c.meaning} |" for c in table.columns)
        lines = [f"## {table.name}", "", f"One row: {table.row}.", "", "| column | type | unit | meaning |"]
        parts.append("\n".join([*lines, "|---|---|---|---|", *rows, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(tables_page())
