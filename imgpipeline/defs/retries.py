"""Decides when automation retries a failed build.

The answer comes from the stored runs, not from a moment such as a cron tick: a moment that passes while the build is
still shown as running would be lost.
"""

import json
from collections.abc import Sequence
from datetime import UTC

import dagster as dg

PAUSES_S = (60, 120, 240, 240, 240, 240, 480, 960, 1920, 3600)
"""Pause after the first, second, … build in a row that failed, in seconds; the last one applies to all further ones.

The first six are shorter than five minutes, so that a day whose build was killed is soon there. After that, a day that
can never be built costs a run an hour."""


class FailedRecently(dg.AutomationCondition[dg.AssetKey]):
    """True for the days whose last builds failed, until the pause after the last of them is over.

    Its memory between ticks only saves work: without it, the failed builds of each day are read again.
    """

    @property
    def description(self) -> str:
        """What the UI says of this condition."""
        return f"the last build failed, {PAUSES_S[0]} s to {PAUSES_S[-1]} s ago: longer the more builds failed in a row"

    @property
    def name(self) -> str:
        """What the UI calls this condition."""
        return "failed_recently"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Reads the failed builds of those candidates that have a new one."""
        instance = context.asset_graph_view.instance
        days = set(context.candidate_subset.expensively_compute_partition_keys())
        planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        newest = instance.get_latest_storage_id_by_partition(context.key, planned, days) if days else {}
        known = _read_memory(context.cursor)
        memory = {}
        for day, event in newest.items():
            event_known, _ = known.get(day, (0, 0.0))
            memory[day] = known[day] if event == event_known else (event, retry_at_s(instance, context.key, day))
        now_s = context.evaluation_time.timestamp()
        pausing = {day for day, (_, again_at_s) in memory.items() if now_s < again_at_s}
        return dg.AutomationResult(
            context,
            context.candidate_subset.compute_intersection_with_partition_keys(pausing),
            cursor=json.dumps(memory),
        )


def retry_at_s(instance: dg.DagsterInstance, asset: dg.AssetKey, day: str) -> float:
    """Returns when a day may be built again after the builds that failed since its last good one.

    Args:
        instance: Dagster's storage.
        asset: What is built.
        day: The partition.

    Returns:
        Unix time in seconds; 0 where the last build did not fail.
    """
    good = instance.get_latest_storage_id_by_partition(asset, dg.DagsterEventType.ASSET_MATERIALIZATION, {day})
    attempts = dg.AssetRecordsFilter(asset, asset_partitions=[day], after_storage_id=good.get(day))
    planned = instance.fetch_planned_materializations(attempts, limit=len(PAUSES_S)).records
    ended_at_s = _failures_in_a_row(instance, [record.run_id for record in planned])
    return max(ended_at_s) + PAUSES_S[len(ended_at_s) - 1] if ended_at_s else 0.0


def _failures_in_a_row(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> list[float]:
    """Returns when each of the newest runs ended, up to the first that did not fail."""
    wanted = dg.RunsFilter(run_ids=list(run_ids), statuses=[dg.DagsterRunStatus.FAILURE])
    failed = {record.dagster_run.run_id: record for record in instance.get_run_records(wanted)} if run_ids else {}
    ended_at_s = []
    for run_id in run_ids:
        if run_id not in failed:
            break
        record = failed[run_id]
        ended_at_s.append(record.end_time or record.update_timestamp.replace(tzinfo=UTC).timestamp())
    return ended_at_s


def _read_memory(cursor: str | None) -> dict[str, tuple[int, float]]:
    try:
        return {str(day): (int(event), float(at_s)) for day, (event, at_s) in json.loads(cursor or "").items()}
    except (ValueError, TypeError, AttributeError):
        return {}
