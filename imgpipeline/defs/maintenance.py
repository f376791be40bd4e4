"""Hourly maintenance: bundles segments and deletes old images. Each is an asset, a job and a schedule."""

import time
from collections.abc import Callable

import dagster as dg

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA
from imgpipeline.defs.assets.sources import STORED_IMAGES
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.defs.specs import OWNERS
from imgpipeline.errors import ImgpipelineError, PermanentError
from imgpipeline.ledger.bundles.making import bundle_ledger
from imgpipeline.ledger.dead_letters import remove_orphans

LONGEST_BUNDLING_S = 2400.0
"""Time limit of a pass that bundles segments; the next pass continues its work."""
LONGEST_RETENTION_S = 1800.0
"""Time limit of a pass that deletes images; the next pass continues its work."""


def stopwatch(limit_s: float) -> Callable[[], bool]:
    """Returns a function that tells whether a time limit, counted from this call, has passed."""
    until_s = time.monotonic() + limit_s
    return lambda: time.monotonic() > until_s


def _hourly(
    name: str,
    job_name: str,
    minute: int,
    why_skip: Callable[[Pipeline], str | None],
    description: str,
) -> dg.ScheduleDefinition:
    """Returns a schedule that requests a run every hour, unless there is a reason to skip it."""

    @dg.schedule(
        name=name,
        job_name=job_name,
        cron_schedule=f"{minute} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    def request_pass(context: dg.ScheduleEvaluationContext, pipeline: Pipeline) -> dg.RunRequest | dg.SkipReason:
        try:
            reason = why_skip(pipeline)
        except ImgpipelineError as error:
            reason = str(error)
        return dg.SkipReason(reason) if reason else dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())

    return request_pass


@dg.asset(
    group_name="maintenance",
    deps=[FRAME_METADATA],
    kinds={"s3"},
    owners=OWNERS,
    description="How many requests does reading a day save? Each bundle copies the small segments of 10,000 Kafka "
    "offsets into one object, so tables, queries and audits read a day with far fewer requests. Segments stay "
    "unchanged; metadata_bundles/ can be deleted at any time. Runs every hour.",
)
def segment_bundles(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Writes the missing bundles, and removes raw records without a dead letter."""
    with known_failures():
        report = bundle_ledger(pipeline.store(), is_over=stopwatch(LONGEST_BUNDLING_S))
        try:
            context.log.info(f"Removed {remove_orphans(pipeline.store())} raw records without a dead letter.")
        except PermanentError as error:
            context.log.warning(f"Raw records without a dead letter are not removed: {error}")
    for problem in report.problems:
        context.log.warning(f"Not bundled: {problem}")
    return dg.MaterializeResult(
        metadata={
            "segments": dg.MetadataValue.int(report.segments),
            "bundles": dg.MetadataValue.int(report.bundles),
            "bytes": dg.MetadataValue.int(report.size_bytes),
            "requests_saved": dg.MetadataValue.int(report.requests_saved),
            "not_bundled": dg.MetadataValue.int(len(report.problems)),
            "complete": dg.MetadataValue.bool(report.is_complete),
        }
    )


bundle_segments = dg.define_asset_job(
    "bundle_segments",
    selection=[segment_bundles],
    executor_def=dg.in_process_executor,
    tags={WORK_TAG: "bundles"},
    description="Copies the small segments of each complete range of 10,000 offsets into one object.",
)


hourly_bundles = _hourly(
    "hourly_bundles",
    "bundle_segments",
    23,
    lambda _: None,
    "Bundles the segments of each complete range of 10,000 offsets, every hour. On by default: it only adds copies of "
    "small segments, and without them, reading a day costs one request per second of data.",
)


@dg.asset(
    group_name="maintenance",
    deps=[STORED_IMAGES, FRAME_METADATA],
    kinds={"s3"},
    owners=OWNERS,
    description="Which images were deleted? Deletes the oldest images below images/ that exceed "
    "IMGPIPELINE_KEEP_IMAGES_DAYS or IMGPIPELINE_KEEP_IMAGES_BYTES, once the ledger has an outcome for their frames. "
    "Frames and numbers stay; deleted_images/ records what was deleted and when.",
)
def deleted_images(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Deletes the images that exceed the limits."""
    from imgpipeline.lake.quality.image_retention import retain_images  # noqa: PLC0415 - loads DuckDB

    with known_failures():
        report = retain_images(
            pipeline.store(), pipeline.settings(), now=utc_now(), is_over=stopwatch(LONGEST_RETENTION_S)
        )
    context.log.info(f"Deleted {report.images} images, {report.size_bytes} bytes.")
    return dg.MaterializeResult(
        metadata={
            "images": dg.MetadataValue.int(report.images),
            "bytes": dg.MetadataValue.int(report.size_bytes),
            "left": dg.MetadataValue.int(report.left),
            "complete": dg.MetadataValue.bool(report.is_complete),
        }
    )


retain_images_job = dg.define_asset_job(
    "retain_images",
    selection=[deleted_images],
    executor_def=dg.in_process_executor,
    tags={WORK_TAG: "retention"},
    description="Deletes the oldest images that exceed the limits in the settings.",
)


def _why_no_retention(pipeline: Pipeline) -> str | None:
    from imgpipeline.lake.quality.image_retention import is_retained  # noqa: PLC0415 - loads DuckDB

    if is_retained(pipeline.settings()):
        return None
    return "Images are kept: neither IMGPIPELINE_KEEP_IMAGES_DAYS nor _BYTES is set."


hourly_retention = _hourly(
    "hourly_retention",
    "retain_images",
    41,
    _why_no_retention,
    "Deletes the oldest images that exceed IMGPIPELINE_KEEP_IMAGES_DAYS or IMGPIPELINE_KEEP_IMAGES_BYTES, every hour. "
    "Does nothing while neither is set.",
)
