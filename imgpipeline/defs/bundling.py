"""Bundling segments every hour: the asset that shows what it saves, its job and its schedule."""

import time

import dagster as dg

from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.resources import Pipeline
from imgpipeline.errors import ImgpipelineError
from imgpipeline.ledger.bundles.bundling import BundlingReport, bundle_ledger, has_ranges

LONGEST_PASS_S = 2400.0
"""A pass ends before the next one begins. What is left, of a long ledger that never had bundles, is done then."""

LONGEST_LOOK_S = 20.0
"""A tick that has found nothing by then requests a pass, which looks at all partitions."""


@dg.asset(
    group_name="maintenance",
    deps=[FRAME_METADATA],
    kinds={"s3"},
    owners=["team:imgpipeline"],
    description="How many requests does reading a day save? Copies of many small segments in one object: a bundle "
    "for each 10,000 Kafka offsets, so that tables, queries and audits read a day in far fewer requests. The segments "
    "stay as they are; metadata_bundles/ can be deleted at any time. Runs every hour.",
)
def segment_bundles(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Makes the bundles that are missing."""
    began_s = time.monotonic()
    with known_failures():
        report = bundle_ledger(pipeline.store(), is_over=lambda: time.monotonic() - began_s > LONGEST_PASS_S)
    for problem in report.problems:
        context.log.warning(f"Not bundled: {problem}")
    return dg.MaterializeResult(metadata=bundling_metadata(report))


def bundling_metadata(report: BundlingReport) -> dict[str, dg.MetadataValue]:
    """Returns what the UI shows of a pass; the numbers are drawn over time on the asset's page."""
    return {
        "segments": dg.MetadataValue.int(report.segments),
        "bundles": dg.MetadataValue.int(report.bundles),
        "bytes": dg.MetadataValue.int(report.size_bytes),
        "requests_saved": dg.MetadataValue.int(report.requests_saved),
        "not_bundled": dg.MetadataValue.int(len(report.problems)),
        "complete": dg.MetadataValue.bool(report.is_complete),
    }


bundle_segments = dg.define_asset_job(
    "bundle_segments",
    selection=[segment_bundles],
    executor_def=dg.in_process_executor,
    tags={"imgpipeline/work": "bundles"},
    description="Copies the small segments of each complete 10,000 offsets into one object.",
)


@dg.schedule(
    name="hourly_bundles",
    job=bundle_segments,
    cron_schedule="23 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every hour: bundles the segments of each complete range of 10,000 offsets. On by default: it only "
    "adds copies of small segments, and without them, reading a day costs one request per second of data.",
)
def hourly_bundles(context: dg.ScheduleEvaluationContext, pipeline: Pipeline) -> dg.RunRequest | dg.SkipReason:
    """Requests a pass if there is something to bundle."""
    began_s = time.monotonic()
    try:
        is_needed = has_ranges(pipeline.store(), is_over=lambda: time.monotonic() - began_s > LONGEST_LOOK_S)
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))
    if not is_needed:
        return dg.SkipReason("Nothing to bundle: every complete range with many segments has its bundle.")
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())
