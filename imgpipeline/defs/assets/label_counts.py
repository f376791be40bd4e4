"""The summaries' layer: `label_counts`.

Owns the asset's description and what of a build is shown in the UI. The question itself is SQL, in `lake`.
"""

from datetime import date

import dagster as dg

from imgpipeline.contracts.keys import summary_key
from imgpipeline.defs.assets.day_tables import DETECTIONS, FRAMES
from imgpipeline.defs.automation import Outdated, build_when
from imgpipeline.defs.building import RETRIES, BuildConfig, Said, build_days
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.partitions import DAYS, days_of
from imgpipeline.defs.previews import preview_summary
from imgpipeline.defs.resources import Pipeline
from imgpipeline.lake.summaries import build_summary
from imgpipeline.settings import utc_now

_NAME = "label_counts"
LABEL_COUNTS = dg.AssetKey(_NAME)
_MOST_PREVIEWS = 10
"""Of a long range only the last days get a preview."""
_BUILT_TOO = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested())
"""Requested in the same tick as the day tables, it is built in the same run."""


@dg.asset(
    key=LABEL_COUNTS,
    deps=[FRAMES, DETECTIONS],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=RETRIES,
    automation_condition=build_when(Outdated(DETECTIONS) | _BUILT_TOO),
    group_name="summaries",
    kinds={"duckdb", "sql", "parquet"},
    owners=["team:imgpipeline"],
    description="**How many of which label were seen in which hour?** One row for each label and hour of the day: "
    "count, first and last time seen, mean confidence.",
)
def label_counts(context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline) -> None:
    """Counts labels by the hour, for the days whose detections have news."""
    days = days_of(context)
    with known_failures():
        store = pipeline.store()

        def build(day: date) -> Said:
            built = build_summary(store, _NAME, day, force=config.force, now=utc_now())
            said = {
                "path": f"{store.url}/{summary_key(_NAME, day)}",
                "dagster/row_count": built.rows,
                "size_bytes": built.size_bytes,
                "skipped": built.skipped,
                "built_at": dg.MetadataValue.timestamp(built.built_at),
            }
            previews = preview_summary(store, _NAME, day) if day in days[-_MOST_PREVIEWS:] else {}
            return {LABEL_COUNTS: {**said, **previews}}

        build_days(context, days, DETECTIONS, build)
