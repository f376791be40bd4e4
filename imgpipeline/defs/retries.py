"""Decides when automation retries a failed build.

The decision depends on the stored runs, not on a moment such as a cron tick, which would be lost if the build is still
shown as running at that moment.
"""

import json
from collections.abc import Sequence

import dagster as dg

from imgpipeline.defs.lost_runs import ended_at

PAUSES_S = (60, 120, 240, 240, 240, 240, 480, 960, 1920, 3600)
"""Pause after the first, second, … consecutive failed build, in seconds; the last one applies to all further failures.

The first six are shorter than five minutes, so a day whose build was killed is built soon. In the long run, a day that
can never be built costs one run per hour."""


class FailedRecently(dg.AutomationCondition[dg.AssetKey]):
    """True for days whose last build failed, until the pause after it is over.

    The cursor only saves work: without it, the condition reads the failed builds of each day again.
    """

    @property
    def description(self) -> str:
        """Description in the UI."""
        return f"the last build failed (pause: {PAUSES_S[0]} to {PAUSES_S[-1]} s, longer after consecutive failures)"

    @property
    def name(self) -> str:
        """Name in the UI."""
        return "failed_recently"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Reads the failed builds of candidates with a new build."""
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
    """Returns when a day may be built again after the builds that failed since its last successful one.

    Args:
        instance: Dagster's storage.
        asset: The asset.
        day: Its partition.

    Returns:
        Unix time in seconds; 0 if the last build did not fail.
    """
    good = instance.get_latest_storage_id_by_partition(asset, dg.DagsterEventType.ASSET_MATERIALIZATION, {day})
    attempts = dg.AssetRecordsFilter(asset, asset_partitions=[day], after_storage_id=good.get(day))
    planned = instance.fetch_planned_materializations(attempts, limit=len(PAUSES_S)).records
    ended_at_s = _failures_in_a_row(instance, [record.run_id for record in planned])
    return max(ended_at_s) + PAUSES_S[len(ended_at_s) - 1] if ended_at_s else 0.0


def _failures_in_a_row(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> list[float]:
    """Returns the end of each of the newest runs, up to the first one that did not fail."""
    wanted = dg.RunsFilter(run_ids=list(run_ids), statuses=[dg.DagsterRunStatus.FAILURE])
    failed = {record.dagster_run.run_id: record for record in instance.get_run_records(wanted)} if run_ids else {}
    ended_at_s = []
    for run_id in run_ids:
        if run_id not in failed:
            break
        record = failed[run_id]
        ended_at_s.append(ended_at(record).timestamp())
    return ended_at_s


def _read_memory(cursor: str | None) -> dict[str, tuple[int, float]]:
    try:
        return {str(day): (int(event), float(at_s)) for day, (event, at_s) in json.loads(cursor or "").items()}
    except (ValueError, TypeError, AttributeError):
        return {}
