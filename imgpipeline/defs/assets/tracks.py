"""The tracks' layer: `tracks`, `track_points` and the counts of unique objects, a Parquet file a day each.

All come from one step. It also brings the day before up to date if that has tracks: its last slice reaches into the
first minute of this day.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.automation import build_when
from imgpipeline.defs.building import RETRIES, BuildConfig, DayBuilds, build_days
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.partitions import DAYS, days_of
from imgpipeline.defs.previews import show_table
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.schemas import table_metadata
from imgpipeline.defs.versions import Built
from imgpipeline.lake.build.summary_inputs import stored_key
from imgpipeline.lake.schema import TRACK_TABLES, Table
from imgpipeline.lake.schema.tracks import TRACKS
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings, load_settings
from imgpipeline.tracking.manifest import tracks_recipe

if TYPE_CHECKING:
    from imgpipeline.tracking.day_tracks import TracksBuild

_UPSTREAM = [dg.AssetKey(name) for name in ("frames", "detections", "notices")]
_NEWS = dg.AutomationCondition.any_deps_updated()
"""Only what comes from now on: the tracks of all earlier days are a backfill that people launch."""
_FOLLOWED = build_when(
    # Not only `newly_updated`: what comes while it is being built would be forgotten. One time too many is skipped.
    _NEWS.since(dg.AutomationCondition.newly_requested())
    | (dg.AutomationCondition.execution_failed() & _NEWS.since(dg.AutomationCondition.newly_updated()))
)
_QUESTIONS = {
    "tracks": "Which objects were followed, from when to when? One row a track of a slice of ten minutes; object_id "
    "joins slices, unique_id also short times without detections.",
    "track_points": "Where was each track in each frame? One row a detection of a track.",
    "unique_objects": "How many different objects of which label did each source see by hour, and for how long?",
    "unique_totals": "How many different objects of which label has each source seen since the day began?",
}


def _spec(table: Table, settings: Settings) -> dg.AssetSpec:
    return dg.AssetSpec(
        table.name,
        deps=_UPSTREAM,
        group_name="tracks",
        kinds={"python", "duckdb", "parquet"},
        owners=["team:imgpipeline"],
        automation_condition=_FOLLOWED,
        code_version=tracks_recipe(settings),
        metadata=table_metadata(table),
        description=f"{_QUESTIONS[table.name]} One Parquet file a day.",
    )


@dg.multi_asset(
    name="tracks",
    specs=[_spec(table, load_settings()) for table in TRACK_TABLES],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=RETRIES,
    can_subset=True,  # so that one can be asked for alone; they are built together all the same
)
def tracks(
    context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Follows the objects of the days that have news."""
    from imgpipeline.tracking.day_tracks import build_tracks  # noqa: PLC0415 - loads numpy and pyarrow

    days = days_of(context)
    with known_failures():
        settings, store = pipeline.settings(), pipeline.store()

        def build(day: date) -> DayBuilds:
            done = build_tracks(store, day, settings=settings, force=config.force, now=utc_now())
            context.log.info(
                f"{day}: {'nothing new' if done.skipped else 'built'}, {counted(done.tracks, 'track')}, "
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
