"""Builds the tracks of a day; only slices whose detections have changed are followed again."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from imgpipeline.lake.build.derived import Derived, Made, Origin, Start, build
from imgpipeline.lake.build.summary_inputs import stored_key
from imgpipeline.lake.schema.tracks import DAY_TRACK_TABLES, STORED_TRACK_TABLES, TRACK_SLICES, TRACKS
from imgpipeline.lake.storage.engine import Engine, all_rows
from imgpipeline.lake.storage.manifest import hash_rows, write_rows
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.settings.tables import TrackingSettings
from imgpipeline.tracking.day_inputs import DayInputs, find_slices, group_boxes, open_inputs
from imgpipeline.tracking.day_objects import STORED_QUERIES, count_objects, name_tracks
from imgpipeline.tracking.manifest import StoredTracks, TracksManifest, library_version, read_tracks, tracks_recipe
from imgpipeline.tracking.slice_rows import WantedSlice, create_rows, follow
from imgpipeline.tracking.values import TrackingParameters, parse_groups

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


@dataclass(frozen=True, slots=True)
class TracksBuild:
    """The result of a build, or of a build with nothing to do."""

    day: date
    """UTC day."""
    skipped: bool
    """Whether the stored tables were current, so nothing was built."""
    slices_followed: int
    """Slices that were followed in this build."""
    slices_kept: int
    """Slices without changes."""
    tracks: int
    """Rows of `tracks`."""
    frame_rates: Mapping[str, float]
    """Median observed frame rate of each source, in frames per second."""
    size_bytes: int
    """Size of all objects."""
    manifests: Mapping[str, TracksManifest]
    """Manifest of each stored table, by table name."""
    duration_s: float
    """How long this call took, in seconds."""


def build_tracks(
    store: ObjectStore, day: date, *, settings: Settings, force: bool = False, now: datetime
) -> TracksBuild:
    """Brings a day's tracks up to date with its detections.

    Args:
        store: The object store.
        day: UTC day.
        settings: How to follow and count.
        force: Follow all slices again, even if nothing has changed.
        now: Build time for the manifests, UTC.

    Raises:
        ConfigurationError: The class groups are wrong.
        PermanentError: A table of the day is missing, or a stored object is not a Parquet file of this project.
        TransientError: The store does not answer, or the build lost the write race eight times.
    """
    began_s = time.perf_counter()
    entry = DayTracks(store, day, settings, now)
    done = build(entry, force=force)
    manifests = {manifest.table: manifest for manifest in done.manifests.values()}
    kept = manifests[TRACK_SLICES.name].rows if done.skipped else entry.kept
    return TracksBuild(
        day=day,
        skipped=done.skipped,
        slices_followed=0 if done.skipped else entry.followed,
        slices_kept=kept,
        tracks=manifests[TRACKS.name].rows,
        frame_rates=manifests[TRACKS.name].frame_rates,
        size_bytes=done.size_bytes,
        manifests=manifests,
        duration_s=time.perf_counter() - began_s,
    )


@dataclass(slots=True)
class DayTracks(Derived[TracksManifest]):
    """A day's tracks as a derived object; its inputs are the day's tables and the rows around midnight."""

    store: ObjectStore
    day: date
    """UTC day."""
    settings: Settings
    """How to follow and count."""
    now: datetime
    """Build time for the manifests, UTC."""
    followed: int = 0
    """Slices that the last `make` followed."""
    kept: int = 0
    """Slices that the last `make` copied."""
    _parameters: TrackingParameters = field(init=False)

    def __post_init__(self) -> None:
        """Reads the parameters from the settings."""
        self._parameters = TrackingParameters.of(self.settings)

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
            create_rows(engine)
            self.kept = 0 if start.force else self._keep(inputs, start)
            todo = [
                WantedSlice(*row)
                for row in engine.run("SELECT * FROM wanted ANTI JOIN slices USING (source, slice_start) ORDER BY ALL")
            ]
            for each in todo:
                follow(engine, each, self._parameters, self.day)
            self.followed = len(todo)
            name_tracks(engine, self.day)
            count_objects(engine, self.day, self.settings)
            return self._write(inputs)

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
        return self._parameters.recipe(f"{library_version()} {self.settings.track_groups}")

    def _write(self, inputs: DayInputs) -> dict[str, Made[TracksManifest]]:
        engine = inputs.engine
        manifest = TracksManifest(
            table="",
            day=self.day,
            made_by=tracks_recipe(self.settings),
            made_of=inputs.versions,
            followed_by=self._followed_by(),
            library=library_version(),
            parameters={name: getattr(self.settings, name) for name in TrackingSettings.model_fields},
            frame_rates=_frame_rates(engine),
            rows=0,
            content="",
            built_at=self.now,
        )
        return {
            stored_key(table.name, self.day): self._write_table(engine, replace(manifest, table=table.name))
            for table in STORED_TRACK_TABLES
        }

    def _write_table(self, engine: Engine, manifest: TracksManifest) -> Made[TracksManifest]:
        query = STORED_QUERIES[manifest.table]
        rows: int = engine.value(f"SELECT count(*) FROM ({query})")  # noqa: S608 - own SQL
        said = replace(manifest, rows=rows, content=hash_rows(engine, query))
        size = self.settings.table_object_bytes
        return Made(write_rows(engine, manifest.table, query, said.to_json(), object_bytes=size), said)


def _frame_rates(engine: Engine) -> dict[str, float]:
    rows = engine.run(
        "SELECT source, median(frame_rate) FROM slices WHERE frame_rate IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    return {source: round(rate, 6) for source, rate in rows}
