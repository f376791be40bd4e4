"""The daily partitions of all assets: from the first accepted day of the settings to today.

A frame may be ahead of the clock (`IMGPIPELINE_MAX_FUTURE_S`), and so of the last partition. Automation remembers its
day and builds it when it starts (`automation.Outdated`). A partition for tomorrow would be the
last one, outside what the UI shows by default.
"""

from datetime import date

import dagster as dg

from imgpipeline.defs.dagster_internals import CheckError
from imgpipeline.settings import load_settings

DAYS = dg.DailyPartitionsDefinition(start_date=load_settings().first_day.isoformat(), timezone="UTC", end_offset=1)
"""UTC days, from `IMGPIPELINE_FIRST_DAY` to today."""


def days_of(context: dg.AssetExecutionContext) -> list[date]:
    """Returns the days that a run was asked for, in order.

    Raises:
        Failure: It was asked for none. Dagster lets a reversed range, and one outside the definition, succeed without
            a single partition.
    """
    keys = asked_keys(context)
    if not keys:
        asked = partition_tags(context)
        raise dg.Failure(
            description=f"No day was asked for (partition: {asked or 'none'}); the days reach from "
            f"{DAYS.get_first_partition_key()} to {DAYS.get_last_partition_key()}. "
            "Next: materialize again with a day in that range, and a range's earlier day first.",
            allow_retries=False,
        )
    return sorted(date.fromisoformat(key) for key in keys)


def asked_keys(context: dg.AssetExecutionContext) -> list[str]:
    """Returns the partitions that a run was asked for; none if they are outside the definition, or reversed."""
    try:
        return [*context.partition_keys] if context.has_partition_key or context.has_partition_key_range else []
    except (dg.DagsterError, CheckError):  # a day outside the definition
        return []


def partition_tags(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Returns the tags by which a run was asked for partitions, for messages."""
    return {name: value for name, value in context.run.tags.items() if "partition" in name}
