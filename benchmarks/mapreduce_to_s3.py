"""A year of documents through `mapreduce label-hour` into a bucket, compared with plain Python and with bare DuckDB.

    python -m benchmarks.mapreduce_to_s3 1000000

The plain run is mapper, sort and reducer of `classic_label_hour` and Hadoop's partitioner, written from its definition.
Bare DuckDB is one query that writes the same lines to one local file, without parts, checks and upload.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path

from benchmarks.classic_label_hour import map_lines, reduce_lines
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server

REDUCERS = 4
LABELS = ["car", "person", "truck", "bus", "bicycle", "dog", "traffic light", "straße", "日本"]
_BARE = """
import sys, duckdb
duckdb.execute('''COPY (
    SELECT key || chr(9) || count(*) || chr(9) || '[' || string_agg(time, ', ' ORDER BY place) || ']' AS line
    FROM (SELECT d.label || '@' || replace(left(processing_timestamp, 13), 'T', ' ') || ':00' AS key,
                 left(processing_timestamp, 19) AS time, place
          FROM (SELECT processing_timestamp, unnest(detections) AS d, row_number() OVER () AS place
                FROM read_json($1, format = 'newline_delimited',
                               columns = {processing_timestamp: 'VARCHAR', detections: 'STRUCT(label VARCHAR)[]'})))
    GROUP BY key ORDER BY key) TO ''' + repr(sys.argv[2]) + '''
    (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '')
''', [sys.argv[1] + '/*.jsonl'])
"""


def write_documents(folder: Path, count: int) -> int:
    """Writes documents of a year, a file for each of its twelve parts; returns their size in bytes."""
    chance, start = random.Random(12), datetime(2025, 1, 1, tzinfo=UTC)  # noqa: S311 - the same documents each time
    for part in range(12):
        with (folder / f"{part:02d}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(part * count // 12, (part + 1) * count // 12):
                at = start + timedelta(days=365) * (number / count)
                document = {
                    "source_image_path": f"s3://bucket/images/frame_{number:06d}.jpg",
                    "source_kafka_offset": number,
                    "processing_timestamp": at.replace(tzinfo=None).isoformat(timespec="microseconds"),
                    "image_width": 1280,
                    "image_height": 720,
                    "model_used": "yolov4-tiny",
                    "detections": [
                        {"label": chance.choice(LABELS), "class_id": 2, "confidence": 0.75, "box": [1, 2, 3, 4]}
                        for _ in range(chance.randrange(8))
                    ],
                }
                file.write(json.dumps(document) + "\n")
    return sum(file.stat().st_size for file in folder.iterdir())


def partition(key: bytes) -> int:
    """Returns the reducer that Hadoop's `HashPartitioner` chooses for a key."""
    found = 1
    for byte in key:
        found = (31 * found + (byte - 256 if byte > 127 else byte)) & 0xFFFFFFFF
    return (found & 0x7FFFFFFF) % REDUCERS


def plain_parts(folder: Path) -> dict[str, bytes]:
    """Returns the parts of a plain Python run, by name."""
    pairs: list[str] = []
    for file in sorted(folder.iterdir()):
        with file.open(encoding="utf-8") as lines:
            pairs += map_lines(lines)
    keyed = sorted(((pair.partition("\t")[0].encode(), pair) for pair in pairs), key=itemgetter(0))
    parts: list[list[bytes]] = [[] for _ in range(REDUCERS)]
    for line in reduce_lines(pair for _, pair in keyed):
        parts[partition(line.partition("\t")[0].encode())].append(line.encode())
    return {f"part-{number:05d}": b"".join(lines) for number, lines in enumerate(parts)} | {"_SUCCESS": b""}


def timed(command: list[str], bucket: S3Bucket) -> float:
    """Runs a command to its end; returns the seconds from start to end."""
    began = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, **bucket.environment()})  # noqa: S603 - our own commands
    return time.monotonic() - began


def main() -> None:
    """Measures, compares and prints."""
    count = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as name, S3Server(Path(name)) as server:
        bucket = server.create_bucket("year")
        source = Path(name, "documents")
        source.mkdir()
        size_bytes = write_documents(source, count)
        command = [sys.executable, "-m", "imgpipeline.cli", "mapreduce", "label-hour", "--input", str(source)]
        command += ["--reducers", str(REDUCERS), "--output"]
        ours_s = [timed([*command, f"s3://{bucket.name}/counts-{round_}"], bucket) for round_ in range(3)]
        bare = [sys.executable, "-c", _BARE, str(source), str(Path(name, "bare.tsv"))]
        bare_s = [timed(bare, bucket) for _ in range(3)]
        began = time.monotonic()
        expected = plain_parts(source)
        plain_s = time.monotonic() - began
        found = {part: server.data_dir.joinpath(bucket.name, "counts-0", part).read_bytes() for part in expected}
        lines = sorted(line for part in expected.values() for line in part.splitlines())
        are_same = Path(name, "bare.tsv").read_bytes().splitlines() == lines
    print(f"{count:,} documents, {size_bytes / 1e6:,.0f} MB; output {sum(map(len, found.values())) / 1e6:,.0f} MB")
    print(f"mapreduce to S3 {sorted(ours_s)[1]:.2f} s, bare DuckDB {sorted(bare_s)[1]:.2f} s, plain {plain_s:.2f} s")
    print(f"bytes equal to the plain run: {found == expected}; to bare DuckDB's lines: {are_same}")


if __name__ == "__main__":
    main()
