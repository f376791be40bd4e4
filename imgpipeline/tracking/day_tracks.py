"""Builds the tracks of a day; only slices whose detections have changed are followed again."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from imgpipeline.lake.days.derived import Built, Derived, Made, Origin, Start
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema.tracks import DAY_TRACK_TABLES, STORED_TRACK_TABLES, TRACK_SLICES
from imgpipeline.lake.storage.engine import Engine, all_rows
from imgpipeline.lake.storage.manifest import write_parquet
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.settings.tables import TrackingSettings
from imgpipeline.tracking.day_inputs import DayInputs, find_slices, group_boxes, open_inputs
from imgpipeline.tracking.day_objects import STORED_QUERIES, count_objects, name_tracks
from imgpipeline.tracking.following import follow_slice
from imgpipeline.tracking.manifest import StoredTracks, TracksManifest, library_version, read_tracks, tracks_recipe
from imgpipeline.tracking.values import (
    FASTEST,
    OVERLAP,
    SLICE,
    FrameBoxes,
    SliceTrack,
    TrackingParameters,
    parse_groups,
    track_id,
)

_LOG = logging.getLogger(__name__)
_KEPT = {
    "followed": "SELECT track_id, source, class_group, slice_start, CAST(split_part(track_id, '/', -1) AS INTEGER), "
    "frame_rate, ended_by, stitched_after FROM stored_tracks SEMI JOIN kept USING (source, slice_start)",
    "points": "SELECT track_id, source, class_group, frame_id, detection_number FROM stored_track_points AS p "
    "SEMI JOIN kept ON p.source = kept.source AND "
    'time_bucket(INTERVAL 10 minutes, p."timestamp") = kept.slice_start',
    "overlap_points": "SELECT * FROM stored_track_overlaps SEMI JOIN kept USING (source, slice_start)",
    "slices": "SELECT * FROM stored_track_slices SEMI JOIN kept USING (source, slice_start)",
}
"""Rows to copy from the stored tables for slices without changes."""
_TABLES = """
CREATE TABLE followed (track_id VARCHAR, source VARCHAR, class_group VARCHAR, slice_start TIMESTAMPTZ, "number" INTEGER,
                       frame_rate DOUBLE, ended_by VARCHAR, stitched_after VARCHAR);
CREATE TABLE points (track_id VARCHAR, source VARCHAR, class_group VARCHAR, frame_id VARCHAR, detection_number INTEGER);
CREATE TABLE overlap_points (track_id VARCHAR, source VARCHAR, class_group VARCHAR, slice_start TIMESTAMPTZ,
                             frame_day DATE, frame_id VARCHAR, detection_number INTEGER, stitched_after VARCHAR,
                             is_stored BOOLEAN);
CREATE TABLE slices (source VARCHAR, slice_start TIMESTAMPTZ, digest VARCHAR, frames BIGINT, frame_rate DOUBLE,
                     tracks BIGINT)"""
"""The tables that `_follow` fills."""
_FRAMES = """
SELECT frame_id, day, time_us FROM seen WHERE source = $source AND time_us >= $first AND time_us < $until
ORDER BY time_us, frame_id, day"""
_BOXES = """
SELECT class_group, day, frame_id, detection_number, confidence, x, y, x + width AS "right", y + height AS bottom,
       is_weak
FROM boxes JOIN grouped USING (label)
WHERE source = $source AND time_us >= $first AND time_us < $until
ORDER BY class_group, time_us, frame_id, day, detection_number"""
_FRAME_RATES = """
SELECT source, round(median(frame_rate), 6) FROM slices WHERE frame_rate IS NOT NULL GROUP BY source ORDER BY source"""


@dataclass(frozen=True)
class TracksBuild(Built[TracksManifest]):
    """The result of building a day's tracks."""

    slices_followed: int
    slices_kept: int
    """Slices without changes."""


@dataclass(slots=True)
class DayTracks(Derived[TracksManifest]):
    """A day's tracks as a derived object; its inputs are the day's tables and the rows around midnight."""

    store: ObjectStore
    day: date
    settings: Settings
    now: datetime
    followed: int = 0
    """Slices that the last `make` followed."""
    kept: int = 0
    """Slices that the last `make` copied."""

    @property
    def name(self) -> str:
        """Name of the object in messages."""
        return f"tracks of {self.day}"

    def read(self) -> dict[str, StoredTracks | None]:
        """Returns the stored tables."""
        return read_tracks(self.store, self.day)

    def origin(self, manifest: TracksManifest, /) -> Origin:
        """Returns the inputs and the recipe in a manifest."""
        return Origin(manifest.made_of, manifest.made_by)

    def wanted(self, _stored: Mapping[str, StoredTracks | None], /) -> Origin:
        """Returns the current versions of the inputs, and the current recipe."""
        with open_inputs(self.store, self.day, memory=self.settings.duckdb_memory) as inputs:
            return Origin(inputs.versions, tracks_recipe(self.settings))

    def make(self, start: Start[TracksManifest], /) -> dict[str, Made[TracksManifest]]:
        """Follows the slices with changes, copies the others, and names the objects of the day."""
        with open_inputs(self.store, self.day, memory=self.settings.duckdb_memory) as inputs:
            engine = inputs.engine
            group_boxes(engine, parse_groups(self.settings.track_groups))
            find_slices(engine, self.day)
            engine.run(_TABLES)
            self.kept = 0 if start.force else self._keep(inputs, start)
            todo = [
                _WantedSlice(*row)
                for row in engine.run("SELECT * FROM wanted ANTI JOIN slices USING (source, slice_start) ORDER BY ALL")
            ]
            parameters = TrackingParameters.of(self.settings)
            for each in todo:
                _follow(engine, each, parameters, self.day)
            self.followed = len(todo)
            name_tracks(engine, self.day)
            count_objects(engine, self.day, self.settings)
            return self._write(inputs)

    def _warn(self, rates: Mapping[str, float]) -> None:
        for source, rate in rates.items():
            if rate > FASTEST:
                _LOG.warning(
                    "No tracks of %s on %s: it has %.0f frames per second, more than the %.0f of any camera. Next: if "
                    "each box became a frame, import them by image, with `imgpipeline import metadata` or `import "
                    "detections --format mot`.", source, self.day, rate, FASTEST,
                )  # fmt: skip

    def finish(self, done: Built[TracksManifest], /) -> TracksBuild:
        """Adds how many slices were followed and kept; all were kept if nothing was to do."""
        slices = done.manifests[stored_key(TRACK_SLICES.name, self.day)].rows
        followed, kept = (0, slices) if done.skipped else (self.followed, self.kept)
        return TracksBuild(**vars(done), slices_followed=followed, slices_kept=kept)

    def _keep(self, inputs: DayInputs, start: Start[TracksManifest]) -> int:
        """Copies the slices without changes; returns how many."""
        stored = {found.manifest.table: found for found in start.stored.values() if found}
        builds = {(found.manifest.followed_by, found.manifest.built_at) for found in stored.values()}
        if len(stored) < len(STORED_TRACK_TABLES) or len(builds) > 1 or self._followed_by() not in next(iter(builds)):
            return 0
        engine = inputs.engine
        for table in DAY_TRACK_TABLES:
            path = engine.folder / f"stored-{table.name}.parquet"
            if inputs.cache.link(stored_key(table.name, self.day), stored[table.name].e_tag, path) is None:
                return 0
            engine.run(f"CREATE VIEW stored_{table.name} AS {all_rows(path)}")
        engine.run(
            "CREATE TABLE kept AS SELECT source, slice_start FROM wanted "
            "SEMI JOIN stored_track_slices USING (source, slice_start, digest)"
        )
        for table_name, query in _KEPT.items():
            engine.run(f"INSERT INTO {table_name} {query}")
        return int(engine.value("SELECT count(*) FROM slices"))

    def _followed_by(self) -> str:
        return TrackingParameters.of(self.settings).recipe(f"{library_version()} {self.settings.track_groups}")

    def _write(self, inputs: DayInputs) -> dict[str, Made[TracksManifest]]:
        engine = inputs.engine
        rates = dict(engine.run(_FRAME_RATES))
        self._warn(rates)
        manifest = TracksManifest(
            table="",
            day=self.day,
            made_by=tracks_recipe(self.settings),
            made_of=inputs.versions,
            followed_by=self._followed_by(),
            library=library_version(),
            settings={name: getattr(self.settings, name) for name in TrackingSettings.model_fields},
            frame_rates=rates,
            built_at=self.now,
        )
        made, size = {}, self.settings.table_object_bytes
        for name in (table.name for table in STORED_TRACK_TABLES):
            written = write_parquet(engine, STORED_QUERIES[name], replace(manifest, table=name), object_bytes=size)
            made[stored_key(name, self.day)] = Made(*written)
        return made


@dataclass(frozen=True, slots=True)
class _WantedSlice:
    """One slice of one source."""

    source: str
    start: datetime
    digest: str


def _follow(engine: Engine, wanted: _WantedSlice, parameters: TrackingParameters, day: date) -> None:
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
                    boxes["confidence"][rows].astype(float), boxes["is_weak"][rows].astype(bool),
                )
            )  # fmt: skip
        yield group, frames


class _Rows:
    """The rows of one class group of one slice."""

    def __init__(self, wanted: _WantedSlice, group: str, own_us: int, days: Sequence[Any]) -> None:
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
