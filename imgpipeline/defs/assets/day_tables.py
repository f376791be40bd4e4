"""The day tables' layer: `frames` and `detections`, a Parquet file a day each.

Owns the assets' descriptions and what of a build is shown in the UI. How a day is read from the ledger and written
belongs to `lake`. Both tables come from one step: one read of the ledger, one set of ends.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA
from imgpipeline.defs.automation import SHORTEST_PAUSE_S, Outdated, build_when
from imgpipeline.defs.building import RETRIES, BuildConfig, Said, build_days
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.partitions import DAYS, days_of
from imgpipeline.defs.previews import preview_detections
from imgpipeline.defs.resources import Pipeline
from imgpipeline.lake.day_tables import DayBuild, rebuild_day
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import utc_now

FRAMES = dg.AssetKey("frames")
DETECTIONS = dg.AssetKey("detections")
_MOST_PREVIEWS = 3
"""Of a long range only the last days get a preview: each costs a read of the day, and room in the event log."""


def _table(key: dg.AssetKey, description: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=[FRAME_METADATA],
        group_name="day_tables",
        kinds={"parquet", "s3"},
        owners=["team:imgpipeline"],
        automation_condition=build_when(Outdated(FRAME_METADATA, SHORTEST_PAUSE_S)),
        description=description,
    )


@dg.multi_asset(
    name="day_tables",
    specs=[
        _table(
            FRAMES,
            "**Which frames were there, from which source, when, how large, how bright and how sharp, and by which "
            "model were they looked at?** One row a frame (`frame_id` is unique in its day), one Parquet file a day.",
        ),
        _table(
            DETECTIONS,
            "**What was found where, and how sure?** One row a detection: label, confidence, box in pixels of the "
            "original image, and the `frame_id` it was found in. One Parquet file a day.",
        ),
    ],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=RETRIES,
)
def day_tables(
    context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    """Builds the Parquet files of the days that have news."""
    days = days_of(context)
    with known_failures():
        settings, store = pipeline.settings(), pipeline.store()

        def build(day: date) -> Said:
            built = rebuild_day(store, day, force=config.force, now=utc_now())
            context.log.info(f"{day}: {'nothing new' if built.skipped else 'built'}, {built.frames} frames.")
            previews = preview_detections(settings, store, day) if day in days[-_MOST_PREVIEWS:] else {}
            return {
                FRAMES: {
                    **_stored(store, FRAMES, day, built),
                    "dagster/row_count": built.frames,
                    "announced_again": built.duplicates,
                },
                DETECTIONS: {
                    **_stored(store, DETECTIONS, day, built),
                    "dagster/row_count": built.detections,
                    **previews,
                },
            }

        build_days(context, days, FRAME_METADATA, build)
    yield from (dg.MaterializeResult(asset_key=key) for key in (FRAMES, DETECTIONS))


def _stored(store: ObjectStore, key: dg.AssetKey, day: date, built: DayBuild) -> dict[str, Any]:
    """Returns what is shown of a table's object."""
    path = day_table_key(key.to_user_string(), day)
    found = store.head(path)
    return {
        "path": f"{store.url}/{path}",
        "size_bytes": found.size_bytes if found else 0,
        "skipped": built.skipped,
        "built_at": dg.MetadataValue.timestamp(built.built_at),
    }
