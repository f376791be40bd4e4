"""The documents of search engines: one for each detection, and one for each label and hour, with their classic fields.

A document's id is a hash of its day and key, so a repeated export doubles nothing.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import date
from hashlib import sha256
from typing import Any

import pyarrow as pa

from imgpipeline.sinks.protocol import SinkTable

VERSION = "export_version"
"""The field with the version of the day that a document was written with."""
IMAGE_DETECTIONS = SinkTable(
    "image-detections-v1",
    ("detections", "frames"),
    r"""
    SELECT day, frame_id, detection_number, source, "timestamp", f.processing_timestamp, label, class_id, confidence,
           source_image_path AS image_path, regexp_replace(source_image_path, '^\w+://[^/]+/', '') AS s3_key,
           CASE WHEN x IS NOT NULL THEN [trunc(x), trunc(y), trunc(width), trunc(height)]::INTEGER[] END AS box,
           image_width, image_height, model_used, source_kafka_partition, source_kafka_offset
    FROM detections LEFT JOIN (SELECT day, frame_id, processing_timestamp FROM frames) f USING (day, frame_id)
    """,
    ("frame_id", "detection_number"),
)
HOUR_COUNTS = SinkTable(
    "hadoop-object-counts",
    ("label_counts",),
    """
    SELECT day, label, hour AS time_bucket, sum(count)::INTEGER AS count, hour AS "@timestamp",
           format('summaries/label_counts/day={}/label_counts.parquet', day) AS s3_source_file
    FROM label_counts GROUP BY day, label, hour
    """,
    ("label", "time_bucket"),
)
_TYPES = {pa.string(): "keyword", pa.int64(): "long", pa.int32(): "integer", pa.float64(): "float"}
_ROWS = 1000


def place_of(table: SinkTable, day: date) -> tuple[str, str, str]:
    """Returns the index of a day, and the queries for its documents there and for its version."""
    return f"{table.name}-{day:%Y-%m}", f'day:"{day}"', f'table:"{table.name}" AND day:"{day}"'


def fields_of(schema: pa.Schema) -> Mapping[str, str]:
    """Returns the fields of the documents with their types; a list has the type of its elements."""
    types = {field.name: getattr(field.type, "value_type", field.type) for field in schema}
    return {VERSION: "keyword"} | {name: _TYPES.get(each, "date") for name, each in types.items()}


def documents(table: SinkTable, day: date, rows: pa.RecordBatchReader, version: str) -> Iterator[dict[str, Any]]:
    """Yields the documents of a day with their ids, in the form that the clients' bulk functions take."""
    for batch in rows:
        for start in range(0, batch.num_rows, _ROWS):
            for row in batch.slice(start, _ROWS).to_pylist():
                key = json.dumps([str(day), *(row[name] for name in table.key)], default=str)
                document = {**row, VERSION: version}
                yield {"_id": sha256(key.encode()).hexdigest()[:32], "_source": document}
