"""Follows one slice: reads its frames and boxes from DuckDB, and inserts the resulting tracks as rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from imgpipeline.lake.storage.engine import Engine
from imgpipeline.tracking.following import follow_slice
from imgpipeline.tracking.values import OVERLAP, SLICE, FrameBoxes, SliceTrack, TrackingParameters, track_id

_TABLES = """
CREATE TABLE followed (track_id VARCHAR, source VARCHAR, class_group VARCHAR, slice_start TIMESTAMPTZ, "number" INTEGER,
                       frame_rate DOUBLE, ended_by VARCHAR, stitched_after VARCHAR);
CREATE TABLE points (track_id VARCHAR, source VARCHAR, class_group VARCHAR, frame_id VARCHAR, detection_number INTEGER);
CREATE TABLE overlap_points (track_id VARCHAR, source VARCHAR, class_group VARCHAR, slice_start TIMESTAMPTZ,
                             frame_day DATE, frame_id VARCHAR, detection_number INTEGER, stitched_after VARCHAR,
                             is_stored BOOLEAN);
CREATE TABLE slices (source VARCHAR, slice_start TIMESTAMPTZ, digest VARCHAR, frames BIGINT, frame_rate DOUBLE,
                     tracks BIGINT)"""
_FRAMES = """
SELECT frame_id, day, time_us FROM seen WHERE source = $source AND time_us >= $first AND time_us < $until
ORDER BY time_us, frame_id, day"""
_BOXES = """
SELECT class_group, day, frame_id, detection_number, label, confidence, x, y, x + width AS "right",
       y + height AS bottom, is_weak
FROM boxes JOIN grouped USING (label)
WHERE source = $source AND time_us >= $first AND time_us < $until
ORDER BY class_group, time_us, frame_id, day, detection_number"""


@dataclass(frozen=True, slots=True)
class WantedSlice:
    """One slice of one source."""

    source: str
    start: datetime
    digest: str


def create_rows(engine: Engine) -> None:
    """Creates the tables that `follow` fills: `followed`, `points`, `overlap_points` and `slices`."""
    for statement in _TABLES.split(";"):
        engine.run(statement)


def follow(engine: Engine, wanted: WantedSlice, parameters: TrackingParameters, day: date) -> None:
    """Follows one slice in all class groups and adds its rows."""
    first_us = int(wanted.start.timestamp() * 1e6)
    own_us = first_us + int(SLICE.total_seconds() * 1e6)
    span = {"source": wanted.source, "first": first_us, "until": own_us + int(OVERLAP.total_seconds() * 1e6)}
    shown = engine.connection.execute(_FRAMES, span).fetchall()
    cuts = engine.run("SELECT time_us FROM cuts WHERE source = $source AND time_us BETWEEN $first AND $until", span)
    count = 0
    days = [day for _, day, _ in shown]
    for group, frames in _groups(shown, engine.connection.execute(_BOXES, span).fetchnumpy()):
        tracks = follow_slice(frames, [at_us for (at_us,) in cuts], parameters)
        rows = _Rows(wanted, group, own_us, days)
        for track in tracks:
            rows.add(frames, track)
        count += len(rows.followed)
        rows.insert(engine, is_before=wanted.start.date() < day)
    times = np.array([time_us for _, _, time_us in shown], dtype=np.int64)
    usual_us = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    engine.run(
        "INSERT INTO slices VALUES (?, ?, ?, ?, ?, ?)",
        [wanted.source, wanted.start, wanted.digest, len(shown), 1e6 / usual_us if usual_us else None, count],
    )


def _groups(shown: Sequence[tuple[Any, ...]], boxes: dict[str, Any]) -> Iterator[tuple[str, list[FrameBoxes]]]:
    """Yields each class group with all frames of the slice and the group's boxes in them."""
    index = {(day, frame_id): n for n, (frame_id, day, _) in enumerate(shown)}
    days = boxes["day"].astype("datetime64[D]").tolist()
    at = np.array([index.get(key, -1) for key in zip(days, boxes["frame_id"], strict=True)], dtype=np.int64)
    xyxy = np.column_stack([boxes[name] for name in ("x", "y", "right", "bottom")]).astype(float)
    for group in dict.fromkeys(boxes["class_group"].tolist()):
        chosen = np.flatnonzero((boxes["class_group"] == group) & (at >= 0))
        edges = np.searchsorted(at[chosen], np.arange(len(shown) + 1))
        frames = []
        for n, (frame_id, _, time_us) in enumerate(shown):
            rows = chosen[edges[n] : edges[n + 1]]
            frames.append(
                FrameBoxes(
                    frame_id, time_us, boxes["detection_number"][rows].astype(np.int64), xyxy[rows],
                    boxes["confidence"][rows].astype(float), tuple(boxes["label"][rows].tolist()),
                    boxes["is_weak"][rows].astype(bool),
                )
            )  # fmt: skip
        yield group, frames


class _Rows:
    """The rows of one class group of one slice."""

    def __init__(self, wanted: WantedSlice, group: str, own_us: int, days: Sequence[Any]) -> None:
        self._wanted, self._group, self._own_us, self._days = wanted, group, own_us, days
        self.followed: list[tuple[Any, ...]] = []
        self._points: list[tuple[Any, ...]] = []
        self._overlaps: list[tuple[Any, ...]] = []

    def add(self, frames: Sequence[FrameBoxes], track: SliceTrack) -> None:
        """Adds the points of a track: those in the slice's ten minutes, and those in the overlap."""
        name, start = self._id(track.number), self._wanted.start
        after = self._id(track.stitched_after) if track.stitched_after else None
        key = (name, self._wanted.source, self._group)
        is_stored = frames[track.points[0].frame].time_us < self._own_us
        if is_stored:
            self.followed.append((*key, start, track.number, track.frame_rate, track.ended_by.value, after))
        for point in track.points:
            frame = frames[point.frame]
            number = int(frame.numbers[point.detection])
            if frame.time_us < self._own_us:
                self._points.append((*key, frame.frame_id, number))
            else:
                day = self._days[point.frame]
                self._overlaps.append((*key, start, day, frame.frame_id, number, after, is_stored))

    def insert(self, engine: Engine, *, is_before: bool) -> None:
        """Inserts the rows; for a slice of the day before, only those in the overlap."""
        own = {} if is_before else {"followed": self.followed, "points": self._points}
        for table, rows in {**own, "overlap_points": self._overlaps}.items():
            if rows:
                columns = {f"c{n:02d}": list(values) for n, values in enumerate(zip(*rows, strict=True))}
                engine.connection.register("fresh", pa.table(columns))
                engine.run(f"INSERT INTO {table} SELECT * FROM fresh")  # noqa: S608 - own names
                engine.connection.unregister("fresh")

    def _id(self, number: int) -> str:
        return track_id(self._wanted.source, self._group, self._wanted.start, number)
