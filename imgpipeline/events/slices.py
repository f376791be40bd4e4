"""Slices: two minutes of a source, on which people count the crossings of a line.

The samples of a plan of a line are slices in place of frames. Its questions go to a database in which each slice is a
frame and each crossing a detection, so plans, draws and estimates need not know the difference.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

from imgpipeline.events.configuration import Line
from imgpipeline.events.geometry import find_crossings
from imgpipeline.events.reading import read_frames
from imgpipeline.lake.days.measuring import Ask
from imgpipeline.lake.storage.engine import open_engine

SLICE = timedelta(minutes=2)
LEAD_IN = timedelta(seconds=10)
"""Shown before a slice, so that people see where the objects at its start come from."""
ENOUGH_SLICES = 60
_ID = "%Y%m%dT%H%M%SZ"
_OF_SOURCE = "FROM frames WHERE day = $day AND source = $source AND status = 'processed'"
_SLICES = f"""
SELECT time_bucket(INTERVAL 2 minutes, "timestamp"), source_kafka_topic, source_kafka_topic_id, source_kafka_partition,
    max(source_kafka_offset) {_OF_SOURCE} GROUP BY ALL
"""
_CLIP = f"""
SELECT frame_id, "timestamp" >= $start, image_width, image_height {_OF_SOURCE}
AND "timestamp" >= $lead_in AND "timestamp" < $stop ORDER BY "timestamp", frame_id
"""
# A slice has one row for each chain with its frames. If one of them grows, the slice is no longer the one of a plan.
_TABLES = """
CREATE TABLE frames (
    "timestamp" TIMESTAMPTZ, source_kafka_topic VARCHAR, source_kafka_topic_id VARCHAR,
    source_kafka_partition INTEGER, source_kafka_offset BIGINT, status VARCHAR DEFAULT 'processed',
    day DATE DEFAULT getvariable('day'), source VARCHAR DEFAULT getvariable('source'),
    frame_id VARCHAR AS (strftime("timestamp", getvariable('id'))));
CREATE TABLE detections (
    "timestamp" TIMESTAMPTZ, label VARCHAR, confidence DOUBLE DEFAULT 1,
    day DATE DEFAULT getvariable('day'), source VARCHAR DEFAULT getvariable('source'),
    frame_id VARCHAR AS (strftime("timestamp", getvariable('id'))));
CREATE TABLE label_counts (
    label VARCHAR, day DATE DEFAULT getvariable('day'), source VARCHAR DEFAULT getvariable('source'));
CREATE VIEW frame_stats AS
    SELECT day, source, count(DISTINCT frame_id) AS processed, 0 AS gated, 0 AS dead_letters FROM frames GROUP BY ALL;
"""


def counted_labels(line: Line, labels: Sequence[str]) -> list[str]:
    """Returns what people count at a line: each label in both directions."""
    return [f"{line.name}: {label} {direction}" for label in labels for direction in (line.forward, line.backward)]


@contextmanager
def open_samples(ask: Ask, day: date, line: Mapping[str, Any] | None, *, memory: str | None = None) -> Iterator[Ask]:
    """Opens what the samples of a plan are drawn from: frames, or without these the slices of a line.

    Crossings are found as for the table of crossings; each belongs to the slice of the first frame on the new side.

    Args:
        ask: Queries the tables `frames`, `detections`, `tracks` and `track_points`.
        line: The line as the plan has it; None for a plan of frames.
        memory: Limit of DuckDB, such as `2GB`.
    """
    if line is None:
        yield ask
        return
    at = Line.model_validate(line)
    frames = read_frames(ask, day, [at.source], [], 0, with_tracks=True, only_detected=True)
    with open_engine(memory=memory) as engine:
        for name, value in (("day", day), ("source", at.source), ("id", _ID)):
            engine.run(f"SET VARIABLE {name} = ?", [value])
        engine.run(_TABLES)
        for row in ask(_SLICES, {"day": day, "source": at.source}):
            engine.run("INSERT INTO frames VALUES (?, ?, ?, ?, ?, DEFAULT, DEFAULT, DEFAULT)", row)
        crossings = list(find_crossings(at, frames))
        for one in crossings:
            found = [one.after.timestamp, f"{at.name}: {one.label} {one.direction}"]
            engine.run(
                "INSERT INTO detections VALUES (time_bucket(INTERVAL 2 minutes, ?), ?, 1, DEFAULT, DEFAULT)", found
            )
        for label in counted_labels(at, sorted({one.label for one in crossings})):
            engine.run("INSERT INTO label_counts VALUES (?, DEFAULT, DEFAULT)", [label])
        yield engine.run


def read_clip(ask: Ask, day: date, source: str, slice_id: str) -> list[dict[str, Any]]:
    """Returns the frames of a slice and of its lead-in, by time; those of the lead-in do not count."""
    start = datetime.strptime(slice_id, _ID).replace(tzinfo=UTC)
    given = {"day": day, "source": source, "start": start, "lead_in": start - LEAD_IN, "stop": start + SLICE}
    names = ("frame_id", "is_counted", "image_width", "image_height")
    return [dict(zip(names, row, strict=True)) for row in ask(_CLIP, given)]
