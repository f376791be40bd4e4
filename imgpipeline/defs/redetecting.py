"""The schedule that re-processes the images of the last week with other models.

It requests one run per model, with those days of the week that have frames. It is off by default, because it costs as
much computing as the week's detection did.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import dagster as dg

from imgpipeline.defs.assets.redetections import redetect_days, redetection_tags
from imgpipeline.defs.partitions import DAYS
from imgpipeline.defs.processes import describe_table
from imgpipeline.defs.rebuilding import stretches
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.run_tags import PROCESS_TABLE_TAG, REASON_TAG
from imgpipeline.errors import ImgpipelineError
from imgpipeline.ledger import index_buckets
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.choice import chosen_models, is_here
from imgpipeline.settings import Settings

_DAYS = 7


@dg.schedule(
    name="weekly_redetect",
    job=redetect_days,
    cron_schedule="0 3 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every Monday at 03:00 UTC: re-processes the images of the last seven days with each model of "
    "IMGPIPELINE_REDETECT_MODELS whose file is on this machine, one run per model. Off until it is turned on.",
)
def weekly_redetect(context: dg.ScheduleEvaluationContext, pipeline: Pipeline) -> list[dg.RunRequest] | dg.SkipReason:
    """Requests the last seven days of each model."""
    at = context.scheduled_execution_time
    try:
        settings = pipeline.settings()
        here, missing = split_models(settings)
        days = days_with_frames(pipeline.store(), at.date())
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))
    if not (here or missing):
        return dg.SkipReason("No model is chosen. Next: name some in IMGPIPELINE_REDETECT_MODELS.")
    if not here:
        return dg.SkipReason(
            f"None of the models is on this machine: {', '.join(missing)}. Next: `imgpipeline models pull "
            f"{missing[0]}`, or name others in IMGPIPELINE_REDETECT_MODELS."
        )
    if not days:
        return dg.SkipReason(f"Nothing was announced for the {_DAYS} days before {at.date()}.")
    if missing:
        context.log.warning(f"Left out, since their files are not here: {', '.join(missing)}.")
    return [request_for(model, stretch, at) for model in here for stretch in stretches(days)]


def split_models(settings: Settings) -> tuple[list[str], list[str]]:
    """Returns the models whose files are here, and those that have to be pulled first.

    Raises:
        ConfigurationError: The setting names a model that does not exist.
        PermanentError: The registry is damaged.
    """
    choices = chosen_models(settings)
    here = [str(choice) for choice in choices if is_here(choice, settings)]
    return here, [str(choice) for choice in choices if str(choice) not in here]


def days_with_frames(store: ObjectStore, before: date) -> list[date]:
    """Returns those of the seven days before a day that the assets have and for which anything was announced."""
    days = [before - timedelta(days=n) for n in range(_DAYS, 0, -1)]
    known = [day for day in days if DAYS.has_partition_key(day.isoformat())]
    return [day for day in known if next(iter(index_buckets(store, day)), None) is not None]


def request_for(model: str, days: Sequence[date], at: datetime) -> dg.RunRequest:
    """Returns the request for one model and a stretch of consecutive days."""
    return dg.RunRequest(
        run_key=f"{at.isoformat()}/{model}/{days[0]}",
        tags={
            **redetection_tags(model, days[0], days[-1]),
            PROCESS_TABLE_TAG: describe_table(),
            REASON_TAG: "the week is over",
        },
    )
