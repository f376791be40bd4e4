"""The assets `frames`, `detections`, `dead_letters` and `notices`: one Parquet file per day each.

One step builds all of them from one reading of the ledger, up to one set of ends.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date

import dagster as dg

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA
from imgpipeline.defs.automation import SHORTEST_PAUSE_S, NotLookedAt, Outdated, build_when
from imgpipeline.defs.building import BuildConfig, Built, DayBuilds, build_days, by_day
from imgpipeline.defs.checks import (
    AGREES,
    DAY_TABLE_CHECKS,
    DEAD_LETTERS,
    evaluate,
    evaluate_rules,
    judge,
    store_broken_rules,
)
from imgpipeline.defs.partitions import days_of
from imgpipeline.defs.previews import Preview, preview_dead_letters, preview_detections, preview_once
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.specs import table_spec
from imgpipeline.lake.build.day_rows import RECIPE
from imgpipeline.lake.build.day_tables import DayBuild, rebuild_day
from imgpipeline.lake.quality.day_warnings import Verdict, judge_dead_letters, judge_stored_rows
from imgpipeline.lake.schema import DAY_TABLES, Table
from imgpipeline.lake.storage.engine import BuildLimits
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

LOOK_AGAIN_S = 12 * 3600.0
"""After this time without a build, the last built day is checked again."""
_MOST_PREVIEWS = 3
"""In a long range, only the last days get a preview: each reads the day, and takes space in the event log."""
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
}


def _spec(table: Table) -> dg.AssetSpec:
    return table_spec(
        table,
        _QUESTIONS[table.name],
        deps=[FRAME_METADATA],
        group="day_tables",
        kinds={"parquet", "s3"},
        code_version=RECIPE,
        automation=build_when(Outdated(FRAME_METADATA, SHORTEST_PAUSE_S) | NotLookedAt(LOOK_AGAIN_S)),
    )


@by_day(
    name="day_tables",
    specs=[_spec(table) for table in DAY_TABLES],
    check_specs=DAY_TABLE_CHECKS,
    can_subset=True,  # each table can be requested alone, but all are built together
)
def day_tables(
    context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Builds the Parquet files of days with changes."""
    days = days_of(context)
    reports: dict[date, DayBuild] = {}
    with known_failures():
        settings, store = pipeline.settings(), pipeline.store()

        def build(day: date) -> DayBuilds:
            limits = BuildLimits.of(settings)
            report = rebuild_day(store, day, force=config.force, seal=config.seal, now=utc_now(), limits=limits)
            reports[day] = report
            context.log.info(f"{day}: {'current' if report.skipped else 'built'}, {counted(report.frames, 'frame')}.")
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
    """Returns the days that the build read as a whole; the nightly build reads and compares the extended ones."""
    return [day for day in days if not reports[day].is_extended]


def _judge_rows(settings: Settings, store: ObjectStore, report: DayBuild) -> Verdict:
    if report.corrected:
        return Verdict(False, f"{', '.join(report.corrected)} had other rows than the ledger and were replaced: adding "
                       "segments to these tables failed. Please report this.")  # fmt: skip
    return judge_stored_rows(store, report.day, now=utc_now(), memory=settings.duckdb_memory)


def _built(
    context: dg.AssetExecutionContext,
    store: ObjectStore,
    table: str,
    report: DayBuild,
    preview: Callable[[], Preview] | None,
) -> Built:
    """Returns data version and metadata of a stored table."""
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
