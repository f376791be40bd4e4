"""The assets `frames`, `detections`, `dead_letters` and `notices`: one Parquet file per day each.

One step builds all of them from one reading of the ledger, up to one set of ends. `lake` reads and writes the days;
this module describes the assets and what the UI shows of a build.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date

import dagster as dg

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA
from imgpipeline.defs.automation import SHORTEST_PAUSE_S, NotLookedAt, Outdated, build_when
from imgpipeline.defs.building import RETRIES, BuildConfig, DayBuilds, build_days
from imgpipeline.defs.checks import (
    AGREES,
    DAY_TABLE_CHECKS,
    DEAD_LETTERS,
    evaluate,
    evaluate_rules,
    judge,
    store_broken_rules,
)
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.freshness import LOOK_AGAIN_S
from imgpipeline.defs.partitions import DAYS, days_of
from imgpipeline.defs.previews import Preview, preview_dead_letters, preview_detections, preview_once
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.schemas import table_metadata
from imgpipeline.defs.versions import Built
from imgpipeline.lake.build.day_tables import DayBuild, rebuild_day
from imgpipeline.lake.build.ledger_rows import RECIPE
from imgpipeline.lake.quality.day_warnings import Verdict, judge_dead_letters, judge_stored_rows
from imgpipeline.lake.schema import DAY_TABLES, Table
from imgpipeline.lake.storage.engine import BuildLimits
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_MOST_PREVIEWS = 3
"""Of a long range only the last days get a preview: each costs a read of the day, and room in the event log."""
_QUESTIONS = {
    "frames": "Which frames were seen, from which source, when, how large, bright and sharp, and which model "
    "processed them? One row per frame (frame_id is unique within its day), one Parquet file per day.",
    "detections": "What was detected where, and with what confidence? One row per detection: label, confidence, box "
    "in pixels of the original image, and the frame_id of its frame. One Parquet file per day.",
    "dead_letters": "Which records could not become frames, and why? One row per Kafka offset: code, reason, and what "
    "could be read of source and image. One Parquet file per day; the command imgpipeline dead-letters replays them.",
    "notices": "What did the sources report about themselves? One row per Kafka offset: accounts of the frames that a "
    "source received, announced, gated, dropped and lost, and when it started, ended, went offline or online. One "
    "Parquet file per day.",
}


def _spec(table: Table) -> dg.AssetSpec:
    return dg.AssetSpec(
        table.name,
        deps=[FRAME_METADATA],
        group_name="day_tables",
        kinds={"parquet", "s3"},
        owners=["team:imgpipeline"],
        automation_condition=build_when(Outdated(FRAME_METADATA, SHORTEST_PAUSE_S) | NotLookedAt(LOOK_AGAIN_S)),
        code_version=RECIPE,
        metadata=table_metadata(table),
        description=_QUESTIONS[table.name],
    )


@dg.multi_asset(
    name="day_tables",
    specs=[_spec(table) for table in DAY_TABLES],
    check_specs=DAY_TABLE_CHECKS,
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=RETRIES,
    can_subset=True,  # so that one can be asked for alone; they are built together all the same
)
def day_tables(
    context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Builds the Parquet files of the days that have news."""
    days = days_of(context)
    reports: dict[date, DayBuild] = {}
    with known_failures():
        settings, store = pipeline.settings(), pipeline.store()

        def build(day: date) -> DayBuilds:
            limits = BuildLimits.of(settings)
            report = rebuild_day(store, day, force=config.force, seal=config.seal, now=utc_now(), limits=limits)
            reports[day] = report
            context.log.info(
                f"{day}: {'nothing new' if report.skipped else 'built'}, {counted(report.frames, 'frame')}."
            )
            previews: Mapping[str, Callable[[], Preview]] = {
                "detections": lambda: preview_detections(settings, store, day),
                "dead_letters": lambda: preview_dead_letters(settings, store, day) if report.dead_letters else {},
            }
            wanted = previews if day in days[-_MOST_PREVIEWS:] else {}
            return {dg.AssetKey(t.name): _built(context, store, t.name, report, wanted.get(t.name)) for t in DAY_TABLES}

        step = build_days(context, days, [FRAME_METADATA], build)
        store_broken_rules(context, step.failed)
        agrees = judge(_to_compare(step.done, reports), lambda day: _judge_rows(settings, store, reports[day]))
        letters = {day: judge_dead_letters(r.frames, r.dead_letters, settings) for day, r in reports.items()}
    yield from step.results()
    yield from evaluate_rules(context, step.done)
    yield from evaluate(context, AGREES, agrees)
    yield from evaluate(context, DEAD_LETTERS, letters)


def _to_compare(days: Iterable[date], reports: Mapping[date, DayBuild]) -> list[date]:
    """Returns the days whose tables were read from the ledger as a whole.

    To others this build has only added; the nightly build reads them as a whole once the day is over, and compares.
    """
    return [day for day in days if not reports[day].is_extended]


def _judge_rows(settings: Settings, store: ObjectStore, report: DayBuild) -> Verdict:
    if report.corrected:
        return Verdict(False, f"{', '.join(report.corrected)} had other rows than the ledger and were replaced: adding "
                       "segments to these tables went wrong. Please report this.")  # fmt: skip
    return judge_stored_rows(store, report.day, now=utc_now(), memory=settings.duckdb_memory)


def _built(
    context: dg.AssetExecutionContext,
    store: ObjectStore,
    table: str,
    report: DayBuild,
    preview: Callable[[], Preview] | None,
) -> Built:
    """Returns what is stored of a table now, and shown of it."""
    path = day_table_key(table, report.day)
    stored = read_stored(store, path)
    rows, version = (stored.manifest.rows, stored.manifest.content) if stored else (0, "")
    shown: Preview = {}
    if preview:
        asset = dg.AssetKey(table)
        shown = preview_once(context.instance, asset, report.day, version, preview, skipped=report.skipped)
    metadata = {
        "path": f"{store.url}/{path}",
        "dagster/row_count": rows,
        "size_bytes": stored.size_bytes if stored else 0,
        "skipped": report.skipped,
        "extended": report.is_extended,
        "built_at": dg.MetadataValue.timestamp(report.built_at),
        **({"announced_again": report.duplicates} if table == "frames" else {}),
        **shown,
    }
    return Built(metadata, version)
