"""The daily assets: tables, summaries, tracks, what the rules find, the report, and the comparison of models.

One step builds all of them, each after those that it reads (`daily.build`), so an object that cannot be built stops
only those that need it. The step shows each asset as soon as it is stored, and fails at its end if anything failed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import date, timedelta

import dagster as dg

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.objects import COMPARISON, MEASURED, OBJECTS, REPORT, TABLES, DayObject
from imgpipeline.defs.assets.daily_shown import DayShown
from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA
from imgpipeline.defs.checks import DAY_CHECKS, DayChecks
from imgpipeline.defs.lost_runs import note_process
from imgpipeline.defs.partitions import DAYS, days_of
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.run_tags import FAILED_OBJECTS_TAG, WORK_TAG, format_failed, noted
from imgpipeline.defs.specs import OWNERS, table_metadata
from imgpipeline.errors import ImgpipelineError, TransientError
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.schema import ALL
from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.schema.tracks import TRACK_TABLES
from imgpipeline.settings import Settings, load_settings

REDETECTIONS = dg.AssetKey("redetections")
STEP = "build_days"
RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)
"""For transient errors; `resources.known_failures` prevents retries of other errors."""
FRESH_WITHIN = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=14))
"""The freshness policy of `label_counts`: fails if nothing keeps it up to date, but not if the cameras are off.

Dagster only knows when an asset was last materialized. Therefore `keep_tables_current` requests the last day again
after twelve hours without a build: the build finds it current and materializes it as skipped."""
_LISTED = 10
_TABLES = {table.name: table for table in (*ALL, *DAY_TABLES, MODEL_COMPARISON)}
_QUESTIONS = {
    "frames": "Which frames were processed: source, time, size, brightness, sharpness, and model? One row per frame "
    "(frame_id is unique within its day), one Parquet file per day.",
    "detections": "Which objects were detected, where, and with what confidence? One row per detection: label, "
    "confidence, box in pixels of the original image, and the frame_id of its frame. One Parquet file per day.",
    "dead_letters": "Which records could not become frames, and why? One row per Kafka offset: code, reason, and "
    "source and image if readable. One Parquet file per day; the command imgpipeline dead-letters replays them.",
    "notices": "What did the sources report about themselves? One row per Kafka offset: the numbers of frames that a "
    "source received, announced, gated, dropped and lost, and when it started, ended, went offline or online. One "
    "Parquet file per day.",
    "tracks": "Which objects were followed, from when to when? One row per track of a slice of ten minutes. Tracks of "
    "one object have the same object_id. One Parquet file per day.",
    "track_points": "Where was each track in each frame? One row per detection of a track. One Parquet file per day.",
    "unique_objects": "How many unique objects of each label did each source see by hour, and for how long? One "
    "Parquet file per day.",
    "unique_totals": "How many unique objects of each label has each source seen since the start of the day? One "
    "Parquet file per day.",
    "frame_changes": "How much does each image differ from the previous one of its source? Covers the sources of "
    "rules of kind image_change. Each pair is compared once. One Parquet file per day.",
    "events": "Which events did the rules in rules.toml find? One row per event, with the frames and images that "
    "show it. Past days keep the rules that they were built with until they are materialized again. One Parquet file "
    "per day.",
    "zone_occupancy": "Which objects were in each zone of rules.toml, by hour and label: how many at once, how many "
    "unique objects, and for how long? One Parquet file per day.",
    "line_crossings": "How often was each line of rules.toml crossed, by hour, label and direction? One Parquet file "
    "per day.",
    REPORT: "What happened on that day? One self-contained HTML page: detections by label and hour, unique objects, "
    "zones and lines, events, frames by hour and size, images with their detections and tracks, dead letters, and "
    "whether tables and ledger agree. The command imgpipeline report --day D --out F downloads it.",
    MEASURED: "How far is each count from the truth? For each source and label for which people count a random sample "
    "of frames (imgpipeline accuracy plan): the corrected count and its 95 % interval. Days without a plan have none. "
    "One Parquet file per day.",
    COMPARISON: "Where do models agree, and which objects does only one of them find? For each pair of models that "
    "have processed the day (live: the detection runs) and each label: counts, matches with an IoU of 0.5 or more, "
    "objects of only one model, and ten images with the boxes of both. One Parquet file per day.",
    **{
        name: f"{summary.question} One row: {summary.table.row}. One Parquet file per day; several days are the sum of "
        "their files."
        for name, summary in SUMMARIES.items()
    },
}
_GROUPS = {
    **dict.fromkeys((table.name for table in DAY_TABLES), ("day_tables", {"parquet", "s3"})),
    **dict.fromkeys(SUMMARIES, ("summaries", {"duckdb", "sql", "parquet"})),
    **dict.fromkeys((table.name for table in TRACK_TABLES), ("tracks", {"python", "duckdb", "parquet"})),
    **dict.fromkeys((table.name for table in (*EVENT_TABLES, *PLACE_TABLES)), ("events", {"parquet", "s3"})),
    REPORT: ("reports", {"html", "s3"}),
    MEASURED: ("summaries", {"duckdb", "parquet"}),
    COMPARISON: ("redetections", {"duckdb", "sql", "parquet"}),
}
"""Group and kinds of each asset."""


class BuildConfig(dg.Config):
    """Options of a build."""

    force: bool = False
    """Build days again even if they are current."""
    seal: bool = False
    """Read days whose tables were extended as a whole, and compare the result with the tables."""


def _specs(settings: Settings) -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            name,
            deps=_inputs_of(each),
            group_name=_GROUPS[name][0],
            kinds=_GROUPS[name][1],
            owners=OWNERS,
            code_version=each.recipe(settings),
            metadata=table_metadata(_TABLES[name]) if name in _TABLES else {},
            description=_QUESTIONS[name],
            freshness_policy=FRESH_WITHIN if name == "label_counts" else None,
            skippable=True,
        )
        for each in OBJECTS.values()
        for name in each.tables
    ]


def _inputs_of(each: DayObject) -> list[dg.AssetKey | dg.AssetDep]:
    if each.name == TABLES:
        return [FRAME_METADATA]
    inputs: list[dg.AssetKey | dg.AssetDep] = [dg.AssetKey(table) for table in each.reads]
    if each.name == COMPARISON:
        to_day = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name="day")
        inputs.append(dg.AssetDep(REDETECTIONS, partition_mapping=to_day))
    return inputs


def day_assets(settings: Settings) -> dg.AssetsDefinition:
    """Returns the assets.

    Args:
        settings: Their code versions depend on them.
    """

    @dg.multi_asset(
        name=STEP,
        specs=_specs(settings),
        check_specs=DAY_CHECKS,
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=RETRIES,
        can_subset=True,
    )
    def build(
        context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
    ) -> Iterator[dg.MaterializeResult[None]]:
        """Builds the requested objects of each day."""
        yield from _build(context, config, pipeline)

    return build


def _build(
    context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None]]:
    from imgpipeline.daily.build import BuildOptions, build_day  # noqa: PLC0415 - loads the reports

    days = days_of(context)
    note_process(context.instance, context.run_id)
    names = [each.name for each in OBJECTS.values() if _is_selected(context, each)]
    failed: dict[tuple[str, date], ImgpipelineError] = {}
    with known_failures():
        settings, store = pipeline.settings(), pipeline.store()
        checks, shown = DayChecks(context, settings, store), DayShown(context, settings, store, days)
        # Builds by automation keep the rules of past days; a build that a person requests uses the current rules.
        keeps_rules = context.run.tags.get(WORK_TAG) == "tables"
        options = BuildOptions(force=config.force, seal=config.seal, keeps_rules=keeps_rules)
        for day in days:
            for built in build_day(store, settings, day, names, options, clock=utc_now):
                if built.error is not None:
                    context.log.warning(f"{built.name} of {day} cannot be built: {built.error}")
                    failed[built.name, day] = built.error
                else:
                    yield from shown.results(built)
                checks.note(built)
    if failed:
        raise _failure(context, failed, len(days))


def _is_selected(context: dg.AssetExecutionContext, each: DayObject) -> bool:
    return any(dg.AssetKey(table) in context.selected_asset_keys for table in each.tables)


def _failure(
    context: dg.AssetExecutionContext, failed: Mapping[tuple[str, date], ImgpipelineError], days: int
) -> dg.Failure:
    """Returns the failure of the run, and records what failed as a tag, for the pause before the next attempt."""
    tag = noted(context.run_id, FAILED_OBJECTS_TAG, format_failed(failed))
    context.instance.add_run_tags(context.run_id, tag)
    by_object: dict[str, list[date]] = defaultdict(list)
    for name, day in failed:
        by_object[name].append(day)
    first = next(iter(failed.values()))
    names = "; ".join(f"{name} of {listed(several)}" for name, several in by_object.items())
    return dg.Failure(
        description=f"Could not be built: {names} ({counted(days, 'day')} requested). The first: {first}",
        metadata={"days": sorted({str(day) for _, day in failed}), "next_step": first.next_step or "see the message"},
        allow_retries=all(isinstance(error, TransientError) for error in failed.values()),
    )


def listed(items: Collection[object]) -> str:
    """Returns the first items as text, and the number of the others."""
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(str(item) for item in list(items)[:_LISTED]) + more


daily_assets = day_assets(load_settings())
"""The assets of this deployment."""
