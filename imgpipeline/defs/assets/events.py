"""The assets of rules: `frame_changes`, `events`, and the counts at zones and lines; one Parquet file per day each.

Without the setting `rules_file`, the UI shows the assets but automation does not build them.
"""

from collections.abc import Callable
from datetime import date

import dagster as dg

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.automation import follow
from imgpipeline.defs.building import Built, DayRun, day_asset
from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.defs.specs import table_spec
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
from imgpipeline.settings import Settings, load_settings

_OBJECTS = (FRAMES.name, DETECTIONS.name, *TRACKED)
_UPSTREAM = {
    FRAME_CHANGES.name: (FRAMES.name,),
    EVENTS.name: (*_OBJECTS, FRAME_CHANGES.name),
    ZONE_OCCUPANCY.name: _OBJECTS,
    LINE_CROSSINGS.name: _OBJECTS,
}
_QUESTIONS = {
    FRAME_CHANGES.name: "How much does each image differ from the previous one of its source? Covers the sources of "
    "rules of kind image_change. Each pair is compared once.",
    EVENTS.name: "Which events did the rules in rules.toml find? One row per event, with the frames and images that "
    "show it. Past days keep the rules that they were built with until they are materialized again.",
    ZONE_OCCUPANCY.name: "Which objects were in each zone of rules.toml, by hour and label: how many at once, how many "
    "unique objects, and for how long?",
    LINE_CROSSINGS.name: "How often was each line of rules.toml crossed, by hour, label and direction?",
}


def event_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Returns the assets of rules.

    Args:
        settings: Have the path of the rules. Without rules, automation does not build the assets.
    """
    return [_asset(table, settings) for table in (*EVENT_TABLES, *PLACE_TABLES)]


def _asset(table: Table, settings: Settings) -> dg.AssetsDefinition:
    upstream = [dg.AssetKey(name) for name in _UPSTREAM[table.name]]
    spec = table_spec(
        table,
        f"{_QUESTIONS[table.name]} One Parquet file per day.",
        deps=upstream,
        group="events",
        kinds={"parquet", "s3"},
        code_version=events_recipe(table.name, settings),
        automation=follow(upstream) if settings.rules_file else None,
    )
    return day_asset(spec, upstream, lambda run: _prepare(table, run))


def _prepare(table: Table, run: DayRun) -> Callable[[date], Built]:
    from imgpipeline.events.configuration import read_rules  # noqa: PLC0415 - only if events are built
    from imgpipeline.events.rule_tables import build_table  # noqa: PLC0415 - loads pyarrow

    # Builds by automation keep the rules of past days; a build that a person requests uses the current rules.
    is_automatic = run.context.run.tags.get(WORK_TAG) == "tables"
    rules = read_rules(run.settings, run.store)

    def build(day: date) -> Built:
        done = build_table(
            run.store,
            day,
            table,
            rules=rules,
            settings=run.settings,
            force=run.config.force,
            keeps_rules=is_automatic,
            now=utc_now(),
        )
        key = stored_key(table.name, day)
        stored = read_stored(run.store, key)
        metadata = {
            "path": f"{run.store.url}/{key}",
            "dagster/row_count": done.manifest.rows,
            "size_bytes": done.size_bytes,
            "skipped": done.skipped,
            "built_at": dg.MetadataValue.timestamp(done.manifest.built_at),
        }
        return Built(metadata, stored.manifest.content if stored else "")

    return build


events = event_assets(load_settings())
"""The assets of this deployment."""
