"""The asset `redetections`: the results of other models on stored images.

Its partitions are pairs of model and day. A range run may have days of several models, and any number
of runs, also on other machines, may work on the same days. Redetections do not follow new frames: people or a schedule
request them. `keep_tables_current` builds a comparison of models once a day has them.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from imgpipeline.contracts.keys import redetection_folder
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.assets.daily import REDETECTIONS, RETRIES, BuildConfig, listed
from imgpipeline.defs.lost_runs import LAUNCHED_HERE, note_process
from imgpipeline.defs.partitions import MODEL_DAYS, model_day_key, model_days_of
from imgpipeline.defs.previews import show_table
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.defs.specs import OWNERS, table_metadata
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.lake.schema.redetections import REDETECTIONS as REDETECTIONS_TABLE
from imgpipeline.objectstore import ForbiddenError
from imgpipeline.redetect.choice import parse_choice

if TYPE_CHECKING:
    from imgpipeline.redetect.run import Redetection

FRAMES = dg.AssetKey("frames")
_LOG_EVERY_S = 10.0


@dg.asset(
    key=REDETECTIONS,
    deps=[FRAMES],
    partitions_def=MODEL_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=RETRIES,
    group_name="redetections",
    kinds={"onnx", "parquet", "s3"},
    owners=OWNERS,
    metadata=table_metadata(REDETECTIONS_TABLE),
    description="What would another model, or another threshold, find? Re-processes the stored images of a day with "
    "the model of the partition; the results of detection runs stay unchanged. One row per object; frames.parquet has "
    "one row per frame with its outcome, so deleted images are visible. After a kill, the next run continues where it "
    "stopped; several runs share the work of a day.",
)
def redetections(context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline) -> None:
    """Re-processes the images of the requested days, one model after the other."""
    from imgpipeline.redetect.run import open_redetector, redetect_day  # noqa: PLC0415 - loads the detectors

    wanted = model_days_of(context)
    note_process(context.instance, context.run_id)
    done: dict[str, Mapping[str, Any]] = {}
    failed: dict[str, PermanentError] = {}
    with known_failures():
        settings, store = pipeline.settings(), pipeline.store()
        # Opens all models first, so a missing one fails the run before hours are spent on the others.
        opened = {model: open_redetector(settings, store, parse_choice(model, settings), utc_now) for model in wanted}
        for model, redetector in opened.items():
            for day in wanted[model]:
                key = model_day_key(model, day)
                with _keep_going(context, failed, key):
                    found = redetect_day(redetector, day, force=config.force, progress=_log_progress(context, key))
                    context.log.info(f"{key}: {_said(found)}")
                    done[key] = _shown(found, f"{store.url}/{redetection_folder(model, day)}")
    _tell(context, done, failed)


redetect_days = dg.define_asset_job(
    "redetect_days",
    selection=dg.AssetSelection.assets(REDETECTIONS),
    partitions_def=MODEL_DAYS,
    executor_def=dg.in_process_executor,
    tags={WORK_TAG: "redetection", **LAUNCHED_HERE},
    description="Re-processes the stored images of days with another model: one partition, or a range of days in one "
    "run. Skips current days, unless the run configuration sets force.",
)


def _log_progress(context: dg.AssetExecutionContext, key: str) -> Callable[[int, int], None]:
    """Returns a callback that logs the progress and the rate of a day every ten seconds."""
    began: list[tuple[float, int]] = []
    said_s = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal said_s
        now_s = time.monotonic()
        began[:] = began or [(now_s, done)]
        if now_s - said_s >= _LOG_EVERY_S:
            said_s = now_s
            began_s, before = began[0]
            rate = (done - before) / (now_s - began_s) if now_s > began_s else 0.0
            context.log.info(f"{key}: {done} of {counted(total, 'frame')}, {rate:.1f} frames/s.")

    return progress


def _said(found: "Redetection") -> str:
    manifest = found.manifest
    failed = ", ".join(f"{count} {code}" for code, count in manifest.failed.items())
    what = (
        "current"
        if found.skipped
        else f"processed {counted(found.looked_at, 'image')}, {found.frames_per_s:.1f} per second"
    )
    counts = f"{counted(manifest.frames, 'frame')}, {counted(manifest.rows, 'detection')}"
    return f"{what}; {counts}{f'; failed: {failed}' if failed else ''}."


def _shown(found: "Redetection", folder: str) -> dict[str, Any]:
    manifest = found.manifest
    model = f"{manifest.model_used} {manifest.model_sha256[:8]} >{manifest.confidence_threshold}"
    return {
        "path": f"{folder}/detections.parquet",
        "dagster/row_count": manifest.rows,
        "size_bytes": found.size_bytes,
        "skipped": found.skipped,
        "built_at": dg.MetadataValue.timestamp(manifest.built_at),
        "model": model,
        "frames": manifest.frames,
        "processed": manifest.processed,
        "gated": manifest.gated,
        "failed": sum(manifest.failed.values()),
        **({"failures": show_table(("code", "frames"), list(manifest.failed.items()))} if manifest.failed else {}),
        "looked_at": found.looked_at,
        "frames_per_s": round(found.frames_per_s, 3),
    }


@contextlib.contextmanager
def _keep_going(context: dg.AssetExecutionContext, failed: dict[str, PermanentError], key: str) -> Iterator[None]:
    """Records a permanent error of one partition, so the work on the others continues.

    Raises:
        ConfigurationError: A setting is invalid, so the others would fail too.
        ForbiddenError: The store refuses access, so the others would fail too.
    """
    try:
        yield
    except (ConfigurationError, ForbiddenError):
        raise
    except PermanentError as error:
        context.log.warning(f"{key} cannot be re-processed: {error}")
        failed[key] = error


def _tell(
    context: dg.AssetExecutionContext,
    done: Mapping[str, Mapping[str, Any]],
    failed: Mapping[str, PermanentError],
) -> None:
    """Stores the metadata of each partition; fails after that if some partitions failed."""
    if not failed:
        for key, metadata in done.items():
            context.add_asset_metadata(metadata, asset_key=REDETECTIONS, partition_key=key)
        return
    for key, metadata in done.items():
        context.log_event(dg.AssetMaterialization(REDETECTIONS, partition=key, metadata=dict(metadata)))
    first = next(iter(failed.values()))
    raise dg.Failure(
        description=f"{len(failed)} of {len(failed) + len(done)} partitions could not be built ({listed(failed)}). "
        f"The first: {first}",
        allow_retries=False,
    )
