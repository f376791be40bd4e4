"""The assets of tracks: `tracks`, `track_points` and the counts of unique objects; one Parquet file per day each.

One step builds all of them. It also updates the previous day if that day has tracks, because its last slice overlaps
the first minute of this day.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.automation import build_on_update
from imgpipeline.defs.building import BuildConfig, Built, DayBuilds, build_days, by_day
from imgpipeline.defs.partitions import days_of
from imgpipeline.defs.previews import show_table
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.specs import table_spec
from imgpipeline.lake.build.summary_inputs import stored_key
from imgpipeline.lake.schema import TRACK_TABLES, Table
from imgpipeline.lake.schema.tracks import TRACKS
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings, load_settings
from imgpipeline.tracking.manifest import tracks_recipe

if TYPE_CHECKING:
    from imgpipeline.tracking.day_tracks import TracksBuild

_UPSTREAM = [dg.AssetKey(name) for name in ("frames", "detections", "notices")]
_UPDATED = dg.AutomationCondition.any_deps_updated()
"""Only updates from now on; people launch a backfill for the tracks of earlier days."""
_QUESTIONS = {
    "tracks": "Which objects were followed, from when to when? One row per track of a slice of ten minutes. object_id "
    "joins tracks across slices, unique_id also across short times without detections.",
    "track_points": "Where was each track in each frame? One row per detection of a track.",
    "unique_objects": "How many unique objects of each label did each source see by hour, and for how long?",
    "unique_totals": "How many unique objects of each label has each source seen since the start of the day?",
}


def _spec(table: Table, settings: Settings) -> dg.AssetSpec:
    return table_spec(
        table,
        f"{_QUESTIONS[table.name]} One Parquet file per day.",
        deps=_UPSTREAM,
        group="tracks",
        kinds={"python", "duckdb", "parquet"},
        code_version=tracks_recipe(settings),
        automation=build_on_update(_UPDATED),
    )


@by_day(
    name="tracks",
    specs=[_spec(table, load_settings()) for table in TRACK_TABLES],
    can_subset=True,  # each table can be requested alone, but all are built together
)
def tracks(
    context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Follows the objects of days with changes."""
    from imgpipeline.tracking.day_tracks import build_tracks  # noqa: PLC0415 - loads numpy and pyarrow

    days = days_of(context)
    with known_failures():
        settings, store = pipeline.settings(), pipeline.store()

        def build(day: date) -> DayBuilds:
            done = build_tracks(store, day, settings=settings, force=config.force, now=utc_now())
            context.log.info(
                f"{day}: {'current' if done.skipped else 'built'}, {counted(done.tracks, 'track')}, "
                f"{counted(done.slices_followed, 'slice')} followed, {done.slices_kept} kept."
            )
            before = day - timedelta(days=1)
            if before not in days and store.head(stored_key(TRACKS.name, before)) is not None:
                build_tracks(store, before, settings=settings, now=utc_now())
            return {dg.AssetKey(table.name): _built(store, table.name, done) for table in TRACK_TABLES}

        step = build_days(context, days, _UPSTREAM, build)
    yield from step.results()


def _built(store: ObjectStore, table: str, done: "TracksBuild") -> Built:
    manifest = done.manifests[table]
    rates = show_table(("source", "frames/s"), list(done.frame_rates.items()))
    metadata = {
        "path": f"{store.url}/{stored_key(table, done.day)}",
        "dagster/row_count": manifest.rows,
        "skipped": done.skipped,
        "built_at": dg.MetadataValue.timestamp(manifest.built_at),
        "library": manifest.library,
        "slices_followed": done.slices_followed,
        "slices_kept": done.slices_kept,
        **({"frame_rates": rates} if done.frame_rates else {}),
    }
    return Built(metadata, manifest.content)
