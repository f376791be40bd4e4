"""The assets of redetections: what other models find in a day's stored images, and where models differ.

Partitions have two dimensions, model and day. A range run may contain days of one model or of several, and any number
of runs on any number of machines may work on the same days. Nothing here follows the stream: redetections are launched
or scheduled.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from imgpipeline.contracts.keys import redetection_folder, summary_key
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.automation import build_when
from imgpipeline.defs.building import RETRIES, BuildConfig, others_go_on
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.lost_runs import note_process
from imgpipeline.defs.partitions import DAYS, asked_keys, days_of, partition_tags
from imgpipeline.defs.previews import show_table
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.defs.schemas import table_metadata
from imgpipeline.errors import PermanentError
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON
from imgpipeline.lake.schema.redetections import REDETECTIONS as REDETECTIONS_TABLE
from imgpipeline.redetect.choice import chosen_models, parse_choice
from imgpipeline.redetect.comparison import ComparisonBuild, build_comparison, comparison_recipe
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.redetect.run import Redetection

FRAMES, DETECTIONS = dg.AssetKey("frames"), dg.AssetKey("detections")
REDETECTIONS = dg.AssetKey("redetections")
COMPARISON = dg.AssetKey(MODEL_COMPARISON.name)
MODELS = dg.StaticPartitionsDefinition([str(choice) for choice in chosen_models(load_settings())])
"""Models to look again with: `IMGPIPELINE_REDETECT_MODELS`."""
MODEL_DAYS = dg.MultiPartitionsDefinition({"day": DAYS, "model": MODELS})
"""Partitions such as `2026-01-09|demo@0.3`."""
_LOG_EVERY_S = 10.0
_MOST_PREVIEWS = 3
"""Of a long range only the last days show pictures: they take room in the event log."""
_SHOWN_DAYS = 10
_LOOKED_AGAIN = dg.AutomationCondition.any_deps_updated().ignore(dg.AssetSelection.assets(DETECTIONS))
"""A model has looked at the day again; the stream alone does not make it be compared."""


def model_day_key(model: str, day: date) -> str:
    """Returns the partition of a model and a day: `2026-01-09|demo@0.3`."""
    return str(dg.MultiPartitionKey({"day": day.isoformat(), "model": model}))


def redetection_tags(model: str, first: date, last: date) -> dict[str, str]:
    """Returns the tags of one run that looks at a range of days again, both ends included: for `RunRequest(tags=…)`."""
    return {
        "dagster/asset_partition_range_start": model_day_key(model, first),
        "dagster/asset_partition_range_end": model_day_key(model, last),
    }


@dg.asset(
    key=REDETECTIONS,
    deps=[FRAMES],
    partitions_def=MODEL_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=RETRIES,
    group_name="redetections",
    kinds={"onnx", "parquet", "s3"},
    owners=["team:imgpipeline"],
    metadata=table_metadata(REDETECTIONS_TABLE),
    description="What would another model, or another threshold, have found? The stored images of a day, re-processed "
    "with the model of the partition; the results of detection runs stay as they are. One row per object; "
    "frames.parquet has one row per frame with its outcome, so that a deleted image is never silently missing. A "
    "killed run continues where it stopped, and several runs share the work of a day.",
)
def redetections(context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline) -> None:
    """Looks at the pictures of the asked-for days again, one model after the other."""
    from imgpipeline.redetect.run import open_redetector, redetect_day  # noqa: PLC0415 - loads the detectors

    wanted = _model_days(context)
    note_process(context.instance, context.run_id)
    done: dict[str, Mapping[str, Any]] = {}
    failed: dict[str, PermanentError] = {}
    with known_failures():
        settings, store = pipeline.settings(), pipeline.store()
        # All models first: one that is missing is said before hours are spent on the others.
        opened = {model: open_redetector(settings, store, parse_choice(model, settings), utc_now) for model in wanted}
        for model, redetector in opened.items():
            for day in wanted[model]:
                key = model_day_key(model, day)
                with others_go_on(context, failed, key, "looked at"):
                    found = redetect_day(redetector, day, force=config.force, progress=_log_progress(context, key))
                    context.log.info(f"{key}: {_said(found)}")
                    done[key] = _shown(found, f"{store.url}/{redetection_folder(model, day)}")
    _tell(context, REDETECTIONS, done, failed)


@dg.asset(
    key=COMPARISON,
    deps=[
        DETECTIONS,
        dg.AssetDep(
            REDETECTIONS,
            partition_mapping=dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name="day"),
        ),
    ],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=RETRIES,
    automation_condition=build_when(
        # Not only `newly_updated`: what comes while it is being made would be forgotten. One time too many is skipped.
        _LOOKED_AGAIN.since(dg.AutomationCondition.newly_requested())
        | (dg.AutomationCondition.execution_failed() & _LOOKED_AGAIN.since(dg.AutomationCondition.newly_updated()))
    ),
    group_name="redetections",
    kinds={"duckdb", "sql", "parquet"},
    owners=["team:imgpipeline"],
    code_version=comparison_recipe(),
    metadata=table_metadata(MODEL_COMPARISON),
    description="Where do models agree, and what does only one of them find? For each pair among the detection runs "
    "(live) and the models that have re-processed the day, and each label: counts, pairs with an IoU of 0.5 or more, "
    "what only one has found, and ten images with the boxes of both. One Parquet file per day.",
)
def model_comparison(context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline) -> None:
    """Compares what models have found in the asked-for days."""
    from imgpipeline.defs.redetection_previews import show_examples, show_labels  # noqa: PLC0415 - loads OpenCV

    days = days_of(context)
    note_process(context.instance, context.run_id)
    built: dict[date, ComparisonBuild] = {}
    failed: dict[str, PermanentError] = {}
    with known_failures():
        settings, store = pipeline.settings(), pipeline.store()
        for day in days:
            with others_go_on(context, failed, day.isoformat(), "compared"):
                found = build_comparison(settings, store, day, force=config.force, now=utc_now())
                context.log.info(f"{day}: {'nothing new' if found.skipped else 'compared'}, {', '.join(found.models)}.")
                built[day] = found
        done = {
            day.isoformat(): {
                "path": f"{store.url}/{summary_key(MODEL_COMPARISON.name, day)}",
                "dagster/row_count": found.rows,
                "size_bytes": found.size_bytes,
                "skipped": found.skipped,
                "models": list(found.models),
                "examples": [f"{store.url}/{key}" for key in found.examples],
                **(
                    {**show_labels(settings, store, day), **show_examples(store, found.examples)}
                    if day in days[-_MOST_PREVIEWS:]
                    else {}
                ),
            }
            for day, found in built.items()
        }
    _tell(context, COMPARISON, done, failed)


redetect_days = dg.define_asset_job(
    "redetect_days",
    selection=dg.AssetSelection.assets(REDETECTIONS),
    partitions_def=MODEL_DAYS,
    executor_def=dg.in_process_executor,
    tags={WORK_TAG: "redetection"},
    description="Re-processes the stored images of days with another model: one partition, or a range of days in one "
    "run. Days that are current are skipped, unless the run is configured with force.",
)


def _model_days(context: dg.AssetExecutionContext) -> dict[str, list[date]]:
    """Returns the days that a run was asked for, by model.

    Raises:
        Failure: It was asked for none, as with a reversed range.
    """
    keys = asked_keys(context)
    if not keys:
        asked = partition_tags(context)
        raise dg.Failure(
            description=f"No model and day was asked for (partition: {asked or 'none'}); the days reach from "
            f"{DAYS.get_first_partition_key()} to {DAYS.get_last_partition_key()}, the models of "
            f"IMGPIPELINE_REDETECT_MODELS are {', '.join(MODELS.get_partition_keys()) or 'none'}. Next: name the model "
            f"there, and materialize again with a partition such as {model_day_key('demo', utc_now().date())}, and a "
            "range's earlier day first.",
            allow_retries=False,
        )
    days: dict[str, list[date]] = defaultdict(list)
    for key in keys:
        by_dimension = MODEL_DAYS.get_partition_key_from_str(str(key)).keys_by_dimension
        days[by_dimension["model"]].append(date.fromisoformat(by_dimension["day"]))
    return {model: sorted(several) for model, several in days.items()}


def _log_progress(context: dg.AssetExecutionContext, key: str) -> Callable[[int, int], None]:
    """Returns what logs every ten seconds how far a day is, and how fast it goes."""
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
        "nothing new"
        if found.skipped
        else f"looked at {counted(found.looked_at, 'picture')}, {found.frames_per_s:.1f} a second"
    )
    counts = f"{counted(manifest.frames, 'frame')}, {counted(manifest.detections, 'detection')}"
    return f"{what}; {counts}{f'; failed: {failed}' if failed else ''}."


def _shown(found: "Redetection", folder: str) -> dict[str, Any]:
    manifest = found.manifest
    model = f"{manifest.model_used} {manifest.model_sha256[:8]} >{manifest.confidence_threshold}"
    return {
        "path": f"{folder}/detections.parquet",
        "dagster/row_count": manifest.detections,
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


def _tell(
    context: dg.AssetExecutionContext,
    asset: dg.AssetKey,
    done: Mapping[str, Mapping[str, Any]],
    failed: Mapping[str, PermanentError],
) -> None:
    """Gives each partition its metadata; if some failed, stores the others and fails."""
    if not failed:
        for key, metadata in done.items():
            context.add_asset_metadata(metadata, asset_key=asset, partition_key=key)
        return
    for key, metadata in done.items():
        context.log_event(dg.AssetMaterialization(asset, partition=key, metadata=dict(metadata)))
    raise dg.Failure(description=_failure_of(failed, len(done)), allow_retries=False)


def _failure_of(failed: Mapping[str, PermanentError], done: int) -> str:
    keys: Sequence[str] = list(failed)
    more = f" and {len(keys) - _SHOWN_DAYS} more" if len(keys) > _SHOWN_DAYS else ""
    return (
        f"{len(keys)} of {len(keys) + done} partitions could not be made ({', '.join(keys[:_SHOWN_DAYS])}{more}). "
        f"The first: {failed[keys[0]]}"
    )
