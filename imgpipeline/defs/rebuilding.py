"""Rebuilding days on purpose: the job that people launch, and the schedule that runs every night.

Automation (`automation`) follows the events of a day. The schedule finds the days that Dagster was not told about (an
import, a lost history, a build that failed for good) by comparing the store's tables with the ledger
(`lake.build.stale_days`).
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import groupby

import dagster as dg

from imgpipeline.defs.partitions import DAYS
from imgpipeline.defs.processes import describe_table
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.run_tags import PROCESS_TABLE_TAG, REASON_TAG, WORK_TAG
from imgpipeline.errors import ImgpipelineError
from imgpipeline.lake.build.stale_days import days_behind, days_to_seal
from imgpipeline.ledger import index_buckets
from imgpipeline.settings import Settings, load_settings

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
_TABLES_TAG = {WORK_TAG: "tables"}
_SHOWN_DAYS = 5
_SEALED_WITHIN = timedelta(days=8)
"""Tables put in this time are looked at: a week of nights may fail."""

rebuild_days = dg.define_asset_job(
    "rebuild_days",
    selection=dg.AssetSelection.groups("day_tables", "summaries", "tracks", "reports"),
    partitions_def=DAYS,
    executor_def=dg.in_process_executor,
    tags=_TABLES_TAG,
    description="Builds the tables, summaries, tracks and reports of one day, or of a range of days in one run. Days "
    "that have nothing new are skipped, unless the run is configured with force.",
)


def nightly_cron(settings: Settings) -> str:
    """Returns when the night's build begins, as cron has it."""
    hour, minute = settings.nightly_at.split(":")
    return f"{int(minute)} {int(hour)} * * *"


@dg.schedule(
    name="nightly_rebuild",
    job=rebuild_days,
    cron_schedule=nightly_cron(load_settings()),
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Gives yesterday its last build, and builds every day whose tables are behind the ledger for any "
    "reason: one run for each range of days. IMGPIPELINE_NIGHTLY_AT says when (UTC).",
)
def nightly_rebuild(context: dg.ScheduleEvaluationContext, pipeline: Pipeline) -> list[dg.RunRequest] | dg.SkipReason:
    """Requests the days that are behind, and yesterday."""
    at = context.scheduled_execution_time
    yesterday = at.date() - timedelta(days=1)
    try:
        store = pipeline.store()
        extended = days_to_seal(store, before=at.date(), since=at - _SEALED_WITHIN)
        behind = dict.fromkeys(extended, "read once as a whole, since newer segments were added") | days_behind(store)
        if next(iter(index_buckets(store, yesterday)), None) is not None:
            # Also if it is current: tables built while the day was in progress are checked once more when it is over.
            behind = {yesterday: "the last build of a day that is over", **behind}
    except ImgpipelineError as error:
        return dg.SkipReason(str(error))
    known = {day: why for day, why in behind.items() if DAYS.has_partition_key(day.isoformat())}
    if not known:
        return dg.SkipReason(explain_skip(yesterday, set(behind)))
    return requests_for(known, at)


def requests_for(behind: Mapping[date, str], at: datetime) -> list[dg.RunRequest]:
    """Returns one request for each stretch of consecutive days.

    Args:
        behind: The days, each with the reason.
        at: When the schedule ticked; it is part of the run's key, so that a tick that is evaluated twice asks once, and
            days whose run fails are asked for again the next night.
    """
    return [
        dg.RunRequest(
            run_key=f"{at.isoformat()}/{first}/{last}",
            run_config={"ops": {"day_tables": {"config": {"seal": True}}}},
            tags={
                **_TABLES_TAG,
                RANGE_START_TAG: first.isoformat(),
                RANGE_END_TAG: last.isoformat(),
                PROCESS_TABLE_TAG: describe_table(),
                REASON_TAG: "; ".join(sorted({behind[day] for day in stretch})),
            },
        )
        for stretch in stretches(behind)
        for first, last in [(stretch[0], stretch[-1])]
    ]


def stretches(days: Mapping[date, str] | Sequence[date]) -> list[list[date]]:
    """Returns days as stretches of consecutive ones, in order."""
    numbered = enumerate(sorted(days))
    return [[day for _, day in group] for _, group in groupby(numbered, key=lambda pair: pair[1].toordinal() - pair[0])]


def explain_skip(yesterday: date, unknown: set[date]) -> str:
    """Says why a night has nothing to build."""
    said = f"Nothing to build: nothing was announced for {yesterday}, and no day's tables are behind the ledger."
    if unknown:
        shown = ", ".join(str(day) for day in sorted(unknown)[:_SHOWN_DAYS])
        said += f" Outside of the days of this deployment (IMGPIPELINE_FIRST_DAY) are {len(unknown)}: {shown}."
    return said
