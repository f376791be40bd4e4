"""Deleting old images every hour, if a limit is set: the asset that shows what was deleted, its job and schedule."""

import time

import dagster as dg

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.assets.frame_metadata import FRAME_METADATA
from imgpipeline.defs.assets.sources import STORED_IMAGES
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.resources import Pipeline
from imgpipeline.errors import ImgpipelineError

LONGEST_PASS_S = 1800.0
"""A pass ends before the next one begins; what is left is deleted then."""


@dg.asset(
    group_name="maintenance",
    deps=[STORED_IMAGES, FRAME_METADATA],
    kinds={"s3"},
    owners=["team:imgpipeline"],
    description="Which images were deleted? The oldest ones below images/ by IMGPIPELINE_KEEP_IMAGES_DAYS and "
    "IMGPIPELINE_KEEP_IMAGES_BYTES, whose frames have an outcome in the ledger. Frames and numbers stay; "
    "deleted_images/ says what was deleted when.",
)
def deleted_images(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult[None]:
    """Deletes the images that are due."""
    from imgpipeline.lake.query.image_retention import retain_images  # noqa: PLC0415 - loads DuckDB

    began_s = time.monotonic()
    with known_failures():
        report = retain_images(
            pipeline.store(),
            pipeline.settings(),
            now=utc_now(),
            is_over=lambda: time.monotonic() - began_s > LONGEST_PASS_S,
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
    tags={"imgpipeline/work": "retention"},
    description="Deletes the oldest images by the limits of the settings.",
)


@dg.schedule(
    name="hourly_retention",
    job=retain_images_job,
    cron_schedule="41 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every hour: deletes the oldest images by IMGPIPELINE_KEEP_IMAGES_DAYS and "
    "IMGPIPELINE_KEEP_IMAGES_BYTES. Does nothing while neither is set.",
)
def hourly_retention(context: dg.ScheduleEvaluationContext, pipeline: Pipeline) -> dg.RunRequest | dg.SkipReason:
    """Requests a pass if a limit is set."""
    from imgpipeline.lake.query.image_retention import is_retained  # noqa: PLC0415 - loads DuckDB

    try:
        is_wanted = is_retained(pipeline.settings())
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))
    if not is_wanted:
        return dg.SkipReason("Images are kept: neither IMGPIPELINE_KEEP_IMAGES_DAYS nor _BYTES is set.")
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())
