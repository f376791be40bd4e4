"""The partitions of all assets: UTC days from the first accepted day to today, and pairs of model and day.

A frame may be ahead of the clock (`IMGPIPELINE_MAX_FUTURE_S`) and so belong to a day after the last partition. That day
is built once it starts. A partition for tomorrow would be the last one,
which the UI's default range does not show.
"""

from collections import defaultdict
from datetime import date, timedelta

import dagster as dg

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.dagster_internals import CheckError
from imgpipeline.defs.run_tags import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG
from imgpipeline.redetect.choice import chosen_models
from imgpipeline.settings import load_settings

DAYS = dg.DailyPartitionsDefinition(start_date=load_settings().first_day.isoformat(), timezone="UTC", end_offset=1)
"""UTC days, from `IMGPIPELINE_FIRST_DAY` to today."""
MODELS = dg.StaticPartitionsDefinition([str(choice) for choice in chosen_models(load_settings())])
"""The models for re-processing: `IMGPIPELINE_REDETECT_MODELS`."""
MODEL_DAYS = dg.MultiPartitionsDefinition({"day": DAYS, "model": MODELS})
"""Partitions such as `2026-01-09|demo@0.3`."""


def has_day(day: date) -> bool:
    """Tells whether a day is a partition."""
    return DAYS.has_partition_key(day.isoformat())


def days_of(context: dg.AssetExecutionContext) -> list[date]:
    """Returns the days that a run is for, in order.

    Raises:
        Failure: It has none. Dagster lets a reversed range, and a range outside the definition, succeed without a
            partition.
    """
    keys = _requested_keys(context)
    if not keys:
        raise dg.Failure(
            description=f"No day was requested ({_requested(context)}). {_range_of_days()}. "
            "Next: materialize again with a day in that range; a range starts with the earlier day.",
            allow_retries=False,
        )
    return sorted(date.fromisoformat(key) for key in keys)


def model_days_of(context: dg.AssetExecutionContext) -> dict[str, list[date]]:
    """Returns the days that a run is for, by model.

    Raises:
        Failure: It has none, as with a reversed range.
    """
    keys = _requested_keys(context)
    if not keys:
        raise dg.Failure(
            description=f"No model and day was requested ({_requested(context)}). {_range_of_days()}; the models in "
            f"IMGPIPELINE_REDETECT_MODELS are {', '.join(MODELS.get_partition_keys()) or 'none'}. Next: add the model "
            f"there, and materialize again with a partition such as {model_day_key('demo', utc_now().date())}; a range "
            "starts with the earlier day.",
            allow_retries=False,
        )
    days: dict[str, list[date]] = defaultdict(list)
    for key in keys:
        by_dimension = MODEL_DAYS.get_partition_key_from_str(str(key)).keys_by_dimension
        days[by_dimension["model"]].append(date.fromisoformat(by_dimension["day"]))
    return {model: sorted(several) for model, several in days.items()}


def model_day_key(model: str, day: date) -> str:
    """Returns the partition of a model and a day: `2026-01-09|demo@0.3`."""
    return str(dg.MultiPartitionKey({"day": day.isoformat(), "model": model}))


def range_tags(first: str, last: str) -> dict[str, str]:
    """Returns the tags of one run for a range of partitions, including both ends: for `RunRequest(tags=…)`."""
    return {RANGE_START_TAG: first, RANGE_END_TAG: last}


def redetection_tags(model: str, first: date, last: date) -> dict[str, str]:
    """Returns the tags of one run that re-processes a range of days with a model, including both ends."""
    return range_tags(model_day_key(model, first), model_day_key(model, last))


def days_of_run(run: dg.DagsterRun) -> list[date]:
    """Returns the days that a stored run is for, in order; none if it has no days, or pairs of model and day."""
    first, last = (run.tags.get(name, run.tags.get(PARTITION_TAG, "")) for name in (RANGE_START_TAG, RANGE_END_TAG))
    try:
        start, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        return []
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


def _requested_keys(context: dg.AssetExecutionContext) -> list[str]:
    """Returns the partitions of a run; none if they are outside the definition, or the range is reversed."""
    try:
        return [*context.partition_keys] if context.has_partition_key or context.has_partition_key_range else []
    except (dg.DagsterError, CheckError):  # a day outside the definition
        return []


def _requested(context: dg.AssetExecutionContext) -> str:
    tags = {name: value for name, value in context.run.tags.items() if "partition" in name}
    return f"partition: {tags or 'none'}"


def _range_of_days() -> str:
    return f"The days are {DAYS.get_first_partition_key()} to {DAYS.get_last_partition_key()}"
