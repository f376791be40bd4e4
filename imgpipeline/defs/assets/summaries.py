"""The assets of summaries: one for each summary in `lake.build.summaries`."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta

import dagster as dg

from imgpipeline.contracts.keys import summary_key
from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.automation import follow
from imgpipeline.defs.building import BuildConfig, Built, DayBuilds, build_days, by_day
from imgpipeline.defs.checks import DARKNESS, LABEL_DROP, evaluate, judge
from imgpipeline.defs.partitions import days_of
from imgpipeline.defs.previews import Preview, preview_once, preview_summary
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.specs import table_spec
from imgpipeline.lake.build.day_tables import list_days
from imgpipeline.lake.build.summaries import SUMMARIES, Summary, SummaryBuild, build_summary, recipe
from imgpipeline.lake.quality.day_warnings import LabelHistory, Verdict, judge_darkness
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings, load_settings

_MOST_PREVIEWS = 10
"""In a long range, only the last days get a preview."""
FRESH_WITHIN = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26), warn_window=timedelta(hours=14))
"""The freshness policy of `label_counts`: fails if nothing keeps it up to date, but not if the cameras are off.

Dagster only knows when an asset was last materialized. Therefore automation requests the last day again after
`day_tables.LOOK_AGAIN_S` without a build, even if no frames arrive: the build finds it current, materializes it as
skipped, and its downstream assets follow. If there is no materialization for the time of this policy, the daemon is
down, builds fail, or the ledger cannot be read."""
_FRESHNESS = {"label_counts": FRESH_WITHIN}
_CHECKS = {check.asset_key.to_user_string(): check for check in (DARKNESS, LABEL_DROP)}


def summary_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Returns an asset for each summary.

    Args:
        settings: Their code versions depend on the settings that their queries read.
    """
    return [_summary_asset(summary, settings) for summary in SUMMARIES.values()]


def _summary_asset(summary: Summary, settings: Settings) -> dg.AssetsDefinition:
    check = _CHECKS.get(summary.name)

    @by_day(
        name=summary.name,
        specs=[_spec(summary, settings)],
        check_specs=[check] if check else [],
        # Automation requests the checks of other assets by name, and a run that names checks executes no other checks.
        can_subset=True,
    )
    def build(
        context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        days = days_of(context)
        with known_failures():
            now_settings, store = pipeline.settings(), pipeline.store()

            def build_day(day: date) -> DayBuilds:
                done = build_summary(store, summary.name, day, settings=now_settings, force=config.force, now=utc_now())
                with_preview = day in days[-_MOST_PREVIEWS:]
                return {dg.AssetKey(summary.name): _built(context, settings, store, done, with_preview=with_preview)}

            step = build_days(context, days, _upstream(summary), build_day)
            verdicts = judge(step.done, _judge_of(store, now_settings, summary.name)) if check else {}
        yield from step.results()
        if check:
            yield from evaluate(context, check, verdicts)

    return build


def _upstream(summary: Summary) -> list[dg.AssetKey]:
    return [dg.AssetKey(name) for name in summary.inputs]


def _spec(summary: Summary, settings: Settings) -> dg.AssetSpec:
    return table_spec(
        summary.table,
        f"{summary.question} One row: {summary.table.row}. One Parquet file per day; several days are the sum of their "
        "files.",
        deps=_upstream(summary),
        group="summaries",
        kinds={"duckdb", "sql", "parquet"},
        code_version=recipe(summary.name, settings),
        automation=follow(_upstream(summary)),
        freshness=_FRESHNESS.get(summary.name),
    )


def _built(
    context: dg.AssetExecutionContext, settings: Settings, store: ObjectStore, done: SummaryBuild, *, with_preview: bool
) -> Built:
    """Returns data version and metadata of a stored summary."""
    key = summary_key(done.name, done.day)
    stored = read_stored(store, key)
    version = stored.manifest.content if stored else ""
    shown: Preview = {}
    if with_preview:
        table, asset = SUMMARIES[done.name].table, dg.AssetKey(done.name)
        shown = preview_once(
            context.instance,
            asset,
            done.day,
            version,
            lambda: preview_summary(settings, store, table, done.day),
            skipped=done.skipped,
        )
    metadata = {
        "path": f"{store.url}/{key}",
        "dagster/row_count": done.rows,
        "size_bytes": done.size_bytes,
        "skipped": done.skipped,
        "built_at": dg.MetadataValue.timestamp(done.built_at),
        **shown,
    }
    return Built(metadata, version)


def _judge_of(store: ObjectStore, settings: Settings, name: str) -> Callable[[date], Verdict]:
    """Returns the function that judges one day for the check of a summary."""
    if name == DARKNESS.asset_key.to_user_string():
        return lambda day: judge_darkness(store, day, settings)
    history, now = LabelHistory(store, list_days(store, f"summaries/{name}")), utc_now()
    return lambda day: history.judge(day, settings, now=now)


summaries = summary_assets(load_settings())
"""The assets of this deployment."""
