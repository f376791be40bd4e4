"""The events' layer: `frame_changes`, `events` and the counts at zones and lines, a Parquet file a day each.

Without the setting `rules_file`, the assets are shown and nothing builds them.
"""

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.automation import follow
from imgpipeline.defs.building import RETRIES, BuildConfig, DayBuilds, build_days
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.partitions import DAYS, days_of
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.defs.schemas import table_metadata
from imgpipeline.defs.versions import Built
from imgpipeline.events.recipe import events_recipe
from imgpipeline.events.values import TRACKED
from imgpipeline.lake.build.summary_inputs import stored_key
from imgpipeline.lake.schema import (
    DETECTIONS,
    EVENT_TABLES,
    EVENTS,
    FRAME_CHANGES,
    FRAMES,
    LINE_CROSSINGS,
    PLACE_TABLES,
    ZONE_OCCUPANCY,
    Table,
)
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from imgpipeline.events.configuration import Rules

_UPSTREAM = {
    FRAME_CHANGES.name: [dg.AssetKey(FRAMES.name)],
    EVENTS.name: [dg.AssetKey(name) for name in (FRAMES.name, DETECTIONS.name, *TRACKED, FRAME_CHANGES.name)],
    ZONE_OCCUPANCY.name: [dg.AssetKey(name) for name in (FRAMES.name, DETECTIONS.name, *TRACKED)],
    LINE_CROSSINGS.name: [dg.AssetKey(name) for name in (FRAMES.name, DETECTIONS.name, *TRACKED)],
}
_QUESTIONS = {
    FRAME_CHANGES.name: "By how much does each image differ from the one before of the same source? Only sources that "
    "a rule of kind image_change looks at. Each pair is compared once.",
    EVENTS.name: "What did the rules of rules.toml find? One row an event, with the frames and images that show it. "
    "A day that is over keeps the rules that it was built with, until it is materialized again.",
    ZONE_OCCUPANCY.name: "What stood in each zone of rules.toml, by hour and label: how many at once, how many "
    "different objects, and for how long?",
    LINE_CROSSINGS.name: "How often was each line of rules.toml crossed, by hour, label and direction?",
}


def event_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Returns the assets of this layer.

    Args:
        settings: Say whether there are rules: without them, automation does not build the assets.
    """
    return [_asset(table, settings) for table in (*EVENT_TABLES, *PLACE_TABLES)]


def _asset(table: Table, settings: Settings) -> dg.AssetsDefinition:
    upstream = _UPSTREAM[table.name]

    @dg.multi_asset(
        name=table.name,
        specs=[_spec(table, settings)],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=RETRIES,
    )
    def build(
        context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
    ) -> Iterator[dg.MaterializeResult[None]]:
        from imgpipeline.events.configuration import read_rules  # noqa: PLC0415 - only if events are built

        days = days_of(context)
        # Automatic builds keep the rules of days that are over; a build that a person requests uses the new ones.
        is_automatic = context.run.tags.get(WORK_TAG) == "tables"
        with known_failures():
            now_settings, store = pipeline.settings(), pipeline.store()
            rules = read_rules(now_settings, store)

            def build_day(day: date) -> DayBuilds:
                return {dg.AssetKey(table.name): _build(
                    table, store, day, rules, now_settings, force=config.force, keeps_rules=is_automatic
                )}  # fmt: skip

            step = build_days(context, days, upstream, build_day)
        yield from step.results()

    return build


def _spec(table: Table, settings: Settings) -> dg.AssetSpec:
    upstream = _UPSTREAM[table.name]
    return dg.AssetSpec(
        table.name,
        deps=upstream,
        group_name="events",
        kinds={"parquet", "s3"},
        owners=["team:imgpipeline"],
        description=f"{_QUESTIONS[table.name]} One Parquet file a day.",
        metadata=table_metadata(table),
        code_version=events_recipe(table.name, settings),
        automation_condition=follow(upstream) if settings.rules_file else None,
    )


def _build(
    table: Table, store: ObjectStore, day: date, rules: "Rules", settings: Settings, *, force: bool, keeps_rules: bool
) -> Built:
    """Builds a table of a day; returns its version and what the UI shows of it."""
    from imgpipeline.events.rule_tables import build_table  # noqa: PLC0415 - as above

    done = build_table(
        store, day, table, rules=rules, settings=settings, force=force, keeps_rules=keeps_rules, now=utc_now()
    )
    key = stored_key(table.name, day)
    stored = read_stored(store, key)
    metadata = {
        "path": f"{store.url}/{key}",
        "dagster/row_count": done.manifest.rows,
        "size_bytes": done.size_bytes,
        "skipped": done.skipped,
        "built_at": dg.MetadataValue.timestamp(done.manifest.built_at),
    }
    return Built(metadata, stored.manifest.content if stored else "")


events = event_assets(load_settings())
"""The assets of this deployment."""
