"""The input of the batch benchmarks: one day in a ledger, and the same documents and detections in other forms.

All programs read the same documents, those of the ledger's segments. They are created in a temporary folder that the
caller removes.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb

from benchmarks.place import say
from benchmarks.synthetic_days import SyntheticDay, make_day
from imgpipeline.ledger.segment import decode_segment
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings

_FRAME_LINE = len('{"frame":')
_COPIES = 10
_UPLOADS = 16


@dataclass(frozen=True, slots=True)
class Material:
    """One day in several shapes."""

    folder: Path
    """Where it lies."""
    settings: Settings
    """Name the store in a folder that holds the day's ledger."""
    day: SyntheticDay
    """The day."""
    lines: Path
    """The day's documents as JSON lines."""
    tenth: Path
    """The first tenth of them."""
    tenfold: Path
    """A folder with the file of all of them under ten names: it takes no further room."""
    one_a_file: Path
    """A folder with the first of them, one a file."""


def make_material(folder: Path, frames: int, files: int) -> Material:
    """Makes a day.

    Args:
        folder: An empty folder.
        frames: How many frames the day has.
        files: How many documents are written one a file.
    """
    settings = load_settings(store_url=(folder / "store").as_uri())
    store, day = open_store(settings), SyntheticDay(frames)
    say(f"batch: making a day of {frames:,} frames")
    size_bytes = make_day(store, day)
    material = Material(folder, settings, day, folder / "day.jsonl", folder / "tenth.jsonl",
                        folder / "tenfold", folder / "files")  # fmt: skip
    say(f"batch: writing its {size_bytes / 1e6:,.0f} MB of documents as JSON lines")
    _write_lines(store, material, files)
    material.tenfold.mkdir()
    for number in range(_COPIES):
        (material.tenfold / f"{number}.jsonl").hardlink_to(material.lines)
    return material


def _write_lines(store: ObjectStore, material: Material, files: int) -> None:
    written, tenth, material_files = 0, material.day.frames // 10, material.one_a_file
    material_files.mkdir()
    with material.lines.open("wb") as whole, material.tenth.open("wb") as part:
        for info in sorted(store.list_objects("metadata"), key=lambda info: info.key):
            body = decode_segment(store.get(info.key), info.key).body
            documents = [line[_FRAME_LINE:-1] + b"\n" for line in body.splitlines()]
            whole.writelines(documents)
            part.writelines(documents[: max(0, tenth - written)])
            for number, document in enumerate(documents[: max(0, files - written)], start=written):
                (material_files / f"{number:06d}.json").write_bytes(document)
            written += len(documents)


def make_detections(path: Path, rows: int) -> None:
    """Writes detections of one day as a Parquet file, sorted by time, three a frame, as the day tables are."""
    say(f"batch: making {rows:,} detections in Parquet")
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT TIMESTAMPTZ '2026-01-09 00:00:00+00' + to_microseconds((86400000000 * i // $rows)::BIGINT) "  # noqa: S608 - a path of ours
            "AS timestamp, md5((i // 3)::VARCHAR) AS frame_id, 'camera-' || (i // 3 % 4) AS source, "
            "['person', 'bicycle', 'car', 'motorbike', 'bus', 'truck', 'dog', 'cat', 'bench', 'umbrella']"
            "[(hash(i) % 10)::BIGINT + 1] AS label, round(0.51 + hash(i + 1) % 480 / 1000, 3) AS confidence, "
            "'yolox-nano' AS model_used, repeat('ab', 32) AS model_sha256, 0.5::DOUBLE AS confidence_threshold "
            f"FROM range($rows) AS rows(i)) TO '{path}' (FORMAT parquet, COMPRESSION zstd)",
            {"rows": rows},
        )


def upload(source: Settings, target: Settings) -> None:
    """Puts a store's ledger into another store."""
    here, there = open_store(source), open_store(target)
    keys = [info.key for prefix in ("metadata", "metadata_days") for info in here.list_objects(prefix)]
    with ThreadPoolExecutor(_UPLOADS) as pool:
        list(pool.map(lambda key: there.put(key, here.get(key)), keys))
