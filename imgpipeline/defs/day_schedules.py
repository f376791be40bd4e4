"""The schedules that request builds of days, and the job `rebuild_days`, which people also launch by hand.

`nightly_rebuild` reads yesterday, and other days whose tables were extended by newer segments, once as a whole;
whatever else is due then is built with them. `weekly_redetect` is off by default, because it costs as much computing
time as the detection of a week.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta

import dagster as dg

from imgpipeline.contracts.keys import parse_day
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import stretches
from imgpipeline.daily.objects import objects_of
from imgpipeline.defs.assets.daily import STEP
from imgpipeline.defs.assets.redetections import redetect_days
from imgpipeline.defs.lost_runs import LAUNCHED_HERE
from imgpipeline.defs.partitions import DAYS, has_day, range_tags, redetection_tags
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.run_tags import REASON_TAG, WORK_TAG
from imgpipeline.errors import ImgpipelineError
from imgpipeline.lake.schema.tables import FRAMES
from imgpipeline.lake.storage.manifest import read_manifest
from imgpipeline.ledger.days import index_buckets
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.choice import chosen_models, is_here
from imgpipeline.settings import Settings, load_settings

_SHOWN_DAYS = 5
_SEALED_WITHIN = timedelta(days=8)
"""Maximum age of extended tables that the nightly build reads as a whole, so that a week of nights may fail."""
_REDETECTED_DAYS = 7
_READERS = 16

rebuild_days = dg.define_asset_job(
    "rebuild_days",
    selection=dg.AssetSelection.assets(
        *(table for each in objects_of(load_settings()).values() for table in each.tables)
    ),
    partitions_def=DAYS,
    executor_def=dg.in_process_executor,
    tags={WORK_TAG: "tables", **LAUNCHED_HERE},
    description="Builds the tables, summaries, tracks, events, report and comparison of models of one day, or of a "
    "range of days in one run. Skips what is current, unless the run configuration sets force.",
)


def nightly_cron(settings: Settings) -> str:
    """Returns the cron schedule of the nightly build."""
    hour, minute = settings.nightly_at.split(":")
    return f"{int(minute)} {int(hour)} * * *"


@dg.schedule(
    name="nightly_rebuild",
    job=rebuild_days,
    cron_schedule=nightly_cron(load_settings()),
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Runs the last build of yesterday, reads days with extended tables once as a whole, and builds what is "
    "due: one run for each range of days. IMGPIPELINE_NIGHTLY_AT sets the time (UTC).",
)
def nightly_rebuild(context: dg.ScheduleEvaluationContext, pipeline: Pipeline) -> list[dg.RunRequest] | dg.SkipReason:
    """Requests yesterday, the days whose tables were extended, and what is due."""
    from imgpipeline.daily.states import day_states, due_days  # noqa: PLC0415 - loads DuckDB

    at = context.scheduled_execution_time
    yesterday = at.date() - timedelta(days=1)
    try:
        settings, store = pipeline.settings(), pipeline.store()
        extended = _extended_days(store, before=at.date(), since=at - _SEALED_WITHIN)
        behind = dict.fromkeys(extended, "read once as a whole, since newer segments were added")
        behind |= due_days(day_states(store, settings, now=at))
        if _has_frames(store, yesterday):
            # Even if it is current: tables that were built during the day are checked again after its end.
            behind = {yesterday: "the last build of a day that is over", **behind}
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))
    known = {day: why for day, why in behind.items() if has_day(day)}
    if not known:
        return dg.SkipReason(_explain_skip(yesterday, set(behind)))
    return requests_for(known, at)


def requests_for(behind: Mapping[date, str], at: datetime) -> list[dg.RunRequest]:
    """Returns one request for each stretch of consecutive days.

    Args:
        behind: The days, each with the reason.
        at: Time of the tick. It is part of the run key, so a tick that is evaluated twice requests a run once, and the
            next night requests days whose run failed again.
    """
    return [
        dg.RunRequest(
            run_key=f"{at.isoformat()}/{first}/{last}",
            run_config={"ops": {STEP: {"config": {"seal": True}}}},
            tags={
                **range_tags(first.isoformat(), last.isoformat()),
                REASON_TAG: "; ".join(sorted({behind[day] for day in stretch})),
            },
        )
        for stretch in stretches(behind)
        for first, last in [(stretch[0], stretch[-1])]
    ]


def _extended_days(store: ObjectStore, *, before: date, since: datetime) -> list[date]:
    """Returns the days before a day whose tables were stored since an instant, and extended by newer segments."""
    put_lately = [info.key for info in store.list_objects(FRAMES.name) if info.last_modified >= since]
    days = sorted(day for key in put_lately if (day := parse_day(key)) and day < before)
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda day: read_manifest(store, FRAMES.name, day), days)
        return [day for day, manifest in zip(days, found, strict=True) if manifest and manifest.is_extended]


def _has_frames(store: ObjectStore, day: date) -> bool:
    return next(iter(index_buckets(store, day)), None) is not None


def _explain_skip(yesterday: date, unknown: set[date]) -> str:
    said = f"Nothing to build: no frame was announced for {yesterday}, and nothing is due."
    if unknown:
        days, shown = counted(len(unknown), "day"), ", ".join(str(day) for day in sorted(unknown)[:_SHOWN_DAYS])
        said += f" Outside the days of this deployment (IMGPIPELINE_FIRST_DAY): {days}, such as {shown}."
    return said


@dg.schedule(
    name="weekly_redetect",
    job=redetect_days,
    cron_schedule="0 3 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Re-processes the images of the last seven days with each model in IMGPIPELINE_REDETECT_MODELS whose "
    "file is on this machine, every Monday at 03:00 UTC: one run per model. Off by default.",
)
def weekly_redetect(context: dg.ScheduleEvaluationContext, pipeline: Pipeline) -> list[dg.RunRequest] | dg.SkipReason:
    """Requests those of the last seven days that have frames, for each model."""
    at = context.scheduled_execution_time
    try:
        settings, store = pipeline.settings(), pipeline.store()
        choices = chosen_models(settings)
        here = [str(choice) for choice in choices if is_here(choice, settings)]
        week = [at.date() - timedelta(days=n) for n in range(_REDETECTED_DAYS, 0, -1)]
        days = [day for day in week if has_day(day) and _has_frames(store, day)]
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))
    missing = [str(choice) for choice in choices if str(choice) not in here]
    if not choices:
        return dg.SkipReason("No model is chosen. Next: add models to IMGPIPELINE_REDETECT_MODELS.")
    if not here:
        return dg.SkipReason(
            f"None of the models is on this machine: {', '.join(missing)}. Next: `imgpipeline models pull "
            f"{missing[0]}`, or choose other models in IMGPIPELINE_REDETECT_MODELS."
        )
    if not days:
        return dg.SkipReason(f"No frame was announced for the {_REDETECTED_DAYS} days before {at.date()}.")
    if missing:
        context.log.warning(f"Left out, because their files are not on this machine: {', '.join(missing)}.")
    return [
        dg.RunRequest(
            run_key=f"{at.isoformat()}/{model}/{stretch[0]}",
            tags={
                **redetection_tags(model, stretch[0], stretch[-1]),
                REASON_TAG: "the week is over",
            },
        )
        for model in here
        for stretch in stretches(days)
    ]
