"""Inputs of a day's tracks: frames, boxes and notices from ten minutes before the day to one minute after it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from imgpipeline.lake.days.summary_inputs import link_day
from imgpipeline.lake.schema.tables import DETECTIONS, FRAMES, NOTICES, WEAK_DETECTIONS
from imgpipeline.lake.storage.cache import LakeCache, open_cache
from imgpipeline.lake.storage.engine import Engine, all_rows, open_engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.tracking.values import OVERLAP, SLICE

_TABLES = (FRAMES.name, DETECTIONS.name, NOTICES.name)
_WEAK = WEAK_DETECTIONS.name
_SEEN = """
CREATE TABLE seen AS
SELECT source, day, "timestamp", epoch_us("timestamp") AS time_us, frame_id, sharpness
FROM all_frames
WHERE status = 'processed' AND "timestamp" >= $first AND "timestamp" < $until
ORDER BY source, time_us, frame_id"""
_BOXES = """
CREATE TABLE boxes AS
SELECT source, day, epoch_us("timestamp") AS time_us, frame_id, detection_number, label, confidence, x, y, width,
       height, is_weak
FROM (SELECT *, false AS is_weak FROM all_detections UNION ALL BY NAME
      SELECT *, true AS is_weak FROM all_weak_detections)
WHERE x IS NOT NULL AND width > 0 AND height > 0 AND "timestamp" >= $first AND "timestamp" < $until
ORDER BY source, time_us, frame_id, detection_number"""
_CUTS = """
CREATE TABLE cuts AS
SELECT DISTINCT source, CAST(interval_start AS DATE) AS day, epoch_us(interval_start) AS time_us
FROM all_notices
WHERE kind <> 'account' AND interval_start >= $first AND interval_start < $until"""
_HASHED = """
CREATE VIEW hashed AS
SELECT source, day, time_us, false AS is_box, hash(frame_id, time_us, sharpness) AS part FROM seen
UNION ALL
SELECT source, day, time_us, true,
       hash(is_weak, frame_id, detection_number, label, confidence, x, y, width, height, time_us) FROM boxes
UNION ALL
SELECT source, day, time_us, false, hash('cut', time_us) FROM cuts"""


@dataclass(frozen=True, slots=True)
class DayInputs:
    """The inputs of one day, opened in DuckDB as the tables `seen`, `boxes` and `cuts`."""

    engine: Engine
    """DuckDB; `all_frames` and `all_notices` have the stored rows of the day and its neighbours."""
    cache: LakeCache
    """Fetches the stored tracks."""
    versions: Mapping[str, str]
    """Versions of the day's tables by name, and hashes of the rows that are read from the neighbouring days."""


@contextmanager
def open_inputs(store: ObjectStore, day: date, *, memory: str | None) -> Iterator[DayInputs]:
    """Opens the inputs of a day's tracks.

    Raises:
        PermanentError: A table of the day is missing, damaged or of another schema version.
        TransientError: The store does not answer, or another build takes too long to write all tables of the day.
    """
    midnight = datetime.combine(day, time(), UTC)
    span = {"first": midnight - SLICE, "until": midnight + timedelta(days=1) + OVERLAP}
    with open_cache(store) as (folder, cache), open_engine(folder, memory=memory) as engine:
        linked = {
            each: link_day(
                store, cache, engine.folder, each, _TABLES if each == day else (),
                optional=(_WEAK,) if each == day else (*_TABLES, _WEAK), wanted_by="tracks",
            )
            for each in (day - timedelta(days=1), day, day + timedelta(days=1))
        }  # fmt: skip
        whole = {each: tables for each, tables in linked.items() if set(_TABLES) <= tables.keys()}
        for table in _TABLES:
            queries = " UNION ALL BY NAME ".join(all_rows(of[table].path, day=each) for each, of in whole.items())
            engine.run(f"CREATE VIEW all_{table} AS {queries}")
        weak = [all_rows(of[_WEAK].path, day=each) for each, of in whole.items() if _WEAK in of]
        nothing = "SELECT * FROM all_detections WHERE false"
        engine.run(f"CREATE VIEW all_{_WEAK} AS {' UNION ALL BY NAME '.join(weak) or nothing}")
        for sql in (_SEEN, _BOXES, _CUTS):
            engine.run(sql, span)
        engine.run(_HASHED)
        neighbours = {f"rows of {each}": _hash_of(engine, each) for each in linked if each != day}
        versions = {table: each.manifest.version for table, each in linked[day].items()}
        yield DayInputs(engine, cache, versions | neighbours)


def _hash_of(engine: Engine, day: date) -> str:
    sql = "SELECT count(*) || ' ' || coalesce(sum(part::HUGEINT), 0) FROM hashed WHERE day = ?"
    return str(engine.value(sql, [day]))


def group_boxes(engine: Engine, groups: Mapping[str, str]) -> None:
    """Adds the table `grouped`: the class group of each label."""
    labels = [label for (label,) in engine.run("SELECT DISTINCT label FROM boxes")]
    engine.run(
        "CREATE TABLE grouped AS SELECT unnest(?::VARCHAR[]) AS label, unnest(?::VARCHAR[]) AS class_group",
        [labels, [groups.get(label, label) for label in labels]],
    )


def find_slices(engine: Engine, day: date) -> None:
    """Adds the table `wanted`: the slices of the day that have boxes, each with the hash of its inputs.

    It includes the last slice of the day before, whose overlap shows which objects were present at midnight.
    """
    first = datetime.combine(day, time(), UTC) - SLICE
    slice_us, overlap_us = int(SLICE.total_seconds() * 1e6), int(OVERLAP.total_seconds() * 1e6)
    engine.run(
        f"""
        CREATE TABLE wanted AS
        SELECT source, make_timestamptz(slice_us) AS slice_start,
               count(*) || ' ' || sum(part::HUGEINT) AS digest
        FROM (SELECT source, part, is_box, time_us // {slice_us} * {slice_us} AS slice_us FROM hashed
              UNION ALL
              SELECT source, part, false, (time_us // {slice_us} - 1) * {slice_us} FROM hashed
              WHERE time_us % {slice_us} < {overlap_us})
        WHERE slice_start >= $first AND slice_start < $until
        GROUP BY source, slice_us HAVING bool_or(is_box)""",  # noqa: S608 - own numbers
        {"first": first, "until": first + SLICE + timedelta(days=1)},
    )
