"""Keeps the tables up to date: the conditions that request builds of days, and the sensor that evaluates them.

Dagster's own conditions react to changes ("updated since the last tick"). They can miss an update that arrives during a
build, during a pause, or while the conditions themselves change, and with it the last frames of a day. `Outdated`
compares states instead: a build records the newest upstream event that existed when it started (`UPSTREAM_EVENT`), and
a day is outdated while there is a newer one. Segments are written before the event that reports them, so a build that
knows an event also reads its segments.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from imgpipeline.defs.idle_ticks import RestingAutomation, note_due
from imgpipeline.defs.lost_runs import describe_table
from imgpipeline.defs.retries import FailedRecently
from imgpipeline.defs.run_tags import MAX_RUNTIME_TAG, PARTITION_TAG, PROCESS_TABLE_TAG, WORK_TAG

UPSTREAM_EVENT = "upstream_event"
"""Metadata of a build: storage id of the newest materialization of each upstream asset when the build started."""
BUILD_SECONDS = "build_s"
"""Metadata of a build: its duration in seconds."""
SHORTEST_PAUSE_S = 60.0
"""Lower limit of the pause between two builds of a day."""
PAUSE_PER_BUILD_S = 20.0
"""The pause, as a multiple of the duration of the last build, so builds take at most about a twentieth of the time: on
two cores, each takes seconds of CPU time from a detection run. Queries read newer frames from the ledger."""
LONGEST_PAUSE_S = 180.0
"""Upper limit of the pause, so a day whose build was slow on a busy machine does not stay stale."""
LEAST_PAUSE_PER_BUILD_S = 3.0
"""The pause is at least this multiple of the last build, so long builds take at most a quarter of the time."""
_OVERLAP = 500
"""Recent event ids that each tick reads again, because PostgreSQL can show a smaller id after a greater one."""
_RECORDS_READ = 50
_LONGEST_RUN_S = "3600"
"""Dagster fails a run after this time. Days wait this long if a restart of the container killed their run. A run that
is stopped too early is requested again and skips the days that it has built."""
_UNSOUND = dg.AutomationCondition.any_checks_match(
    dg.AutomationCondition.check_failed() & ~dg.AutomationCondition.will_be_requested(), blocking_only=True
).with_label("a blocking check has failed")
"""Dagster's `all_deps_blocking_checks_passed` requires an evaluation that passed, which days of a range run and days
with a lost history do not have. Here only a failed evaluation blocks downstream assets."""


@dataclass(frozen=True, slots=True)
class Build:
    """The last build of one day."""

    upstream_events: Mapping[str, int]
    """Newest event of each upstream asset when the build started, by asset name; empty if it recorded none."""
    ended_at_s: float
    """End of the build, Unix time in seconds."""
    duration_s: float
    """Duration in seconds."""
    run_id: str = ""
    """The run; empty if it is unknown."""

    def with_run(self, run: dg.RunRecord | None) -> "Build":
        """Returns the build with the times of its run if that is for one day; it also builds what follows the table."""
        if run is None or run.start_time is None or run.end_time is None or PARTITION_TAG not in run.dagster_run.tags:
            return self
        duration_s = max(self.duration_s, run.end_time - run.start_time)
        return replace(self, ended_at_s=max(self.ended_at_s, run.end_time), duration_s=duration_s)

    def due_at_s(self, shortest_pause_s: float) -> float:
        """Returns when the pause after this build ends, Unix time in seconds."""
        longest_s = max(LONGEST_PAUSE_S, LEAST_PAUSE_PER_BUILD_S * self.duration_s)
        pause_s = max(shortest_pause_s, min(longest_s, PAUSE_PER_BUILD_S * self.duration_s))
        return self.ended_at_s + pause_s


class Outdated(dg.AutomationCondition[dg.AssetKey]):
    """True for days with an upstream event newer than their last build, once the pause after that build is over.

    The cursor only saves work: without it, the condition compares all days once.
    """

    def __init__(self, upstream: dg.AssetKey, shortest_pause_s: float = 0.0) -> None:
        """Creates the condition.

        Args:
            upstream: The asset whose events make a day outdated.
            shortest_pause_s: Minimum pause after a build, in seconds, longer after slow builds; 0 for no pause.
        """
        self._upstream = upstream
        self._shortest_pause_s = shortest_pause_s

    @property
    def description(self) -> str:
        """Description in the UI."""
        pause = f" (pause: {self._shortest_pause_s:.0f} s to 3 min)" if self._shortest_pause_s else ""
        return f"{self._upstream.to_user_string()} was updated since the last build{pause}"

    @property
    def name(self) -> str:
        """Name in the UI."""
        return f"outdated({self._upstream.to_user_string()})"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compares the days with new events and those that the last tick left outdated."""
        instance = context.asset_graph_view.instance
        newest, waiting = _read_memory(context.cursor)
        fresh = newest_events(instance, self._upstream, after=max(0, newest - _OVERLAP) or None)
        candidates = {**waiting, **fresh}
        builds = last_builds(instance, context.key, candidates)
        name = self._upstream.to_user_string()
        outdated = {
            d: e for d, e in candidates.items() if d not in builds or builds[d].upstream_events.get(name, 0) < e
        }
        now_s, due_at_s = context.evaluation_time.timestamp(), self._due_at_s(instance, outdated, builds)
        next_in_s = max(0.0, min(due_at_s.values()) - now_s) if due_at_s else None
        note_due(f"{self.name} of {context.key.to_user_string()}", next_in_s)
        due = {day for day, at_s in due_at_s.items() if at_s <= now_s}
        partitions = context.partitions_def
        known = {d for d in due if partitions is not None and partitions.has_partition_key(d)}
        return dg.AutomationResult(
            context,
            context.candidate_subset.compute_intersection_with_partition_keys(known),
            cursor=json.dumps({"newest": max([newest, *fresh.values()]), "waiting": outdated}),
        )

    def _due_at_s(
        self, instance: dg.DagsterInstance, outdated: Iterable[str], builds: Mapping[str, Build]
    ) -> dict[str, float]:
        """Returns when each outdated day is due, Unix time in seconds; 0 if it does not pause."""
        paused = [day for day in outdated if day in builds] if self._shortest_pause_s else []
        run_ids = [builds[day].run_id for day in paused]
        records = instance.get_run_records(dg.RunsFilter(run_ids=run_ids)) if run_ids else ()
        runs = {record.dagster_run.run_id: record for record in records}
        ends = {day: builds[day].with_run(runs.get(builds[day].run_id)) for day in paused}
        return dict.fromkeys(outdated, 0.0) | {d: end.due_at_s(self._shortest_pause_s) for d, end in ends.items()}


class NotLookedAt(dg.AutomationCondition[dg.AssetKey]):
    """True for the day that was built last if no day was built for a while: a sign of life when no frames arrive."""

    def __init__(self, after_s: float) -> None:
        """Creates the condition for a time without builds, in seconds."""
        self._after_s = after_s

    @property
    def description(self) -> str:
        """Description in the UI."""
        return f"no day was built for {self._after_s / 3600:.0f} h"

    @property
    def name(self) -> str:
        """Name in the UI."""
        return "not_looked_at"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Checks the age of the newest build."""
        last = context.asset_graph_view.instance.get_latest_materialization_event(context.key)
        said = last.asset_materialization if last else None
        days = set()
        if last and said and said.partition and context.partitions_def:
            waited_s = context.evaluation_time.timestamp() - last.timestamp
            if waited_s >= self._after_s and context.partitions_def.has_partition_key(said.partition):
                days = {said.partition}
        return dg.AutomationResult(context, context.candidate_subset.compute_intersection_with_partition_keys(days))


def newest_events(
    instance: dg.DagsterInstance, asset: dg.AssetKey, *, days: Iterable[str] | None = None, after: int | None = None
) -> Mapping[str, int]:
    """Returns the storage id of the newest materialization of each day.

    Args:
        instance: Dagster's storage.
        asset: The asset.
        days: Its partitions; default: all.
        after: Only events with a greater storage id.
    """
    wanted = None if days is None else set(days)
    if wanted is not None and not wanted:
        return {}
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    return instance.get_latest_storage_id_by_partition(asset, kind, wanted, after_cursor=after)


def last_builds(instance: dg.DagsterInstance, asset: dg.AssetKey, days: Iterable[str]) -> dict[str, Build]:
    """Returns the last build of each day that has one."""
    ids = sorted(newest_events(instance, asset, days=days).values())
    builds: dict[str, Build] = {}
    for first in range(0, len(ids), _RECORDS_READ):
        chosen = dg.AssetRecordsFilter(asset, storage_ids=ids[first : first + _RECORDS_READ])
        for record in instance.fetch_materializations(chosen, limit=_RECORDS_READ).records:
            said = record.asset_materialization
            if said is not None and said.partition is not None:
                events = _events(said.metadata.get(UPSTREAM_EVENT))
                seconds = _number(said.metadata.get(BUILD_SECONDS))
                builds[said.partition] = Build(events, record.timestamp, seconds, record.run_id)
    return builds


def build_when(outdated: dg.AutomationCondition[Any]) -> dg.AutomationCondition[Any]:
    """Returns the full condition: no build in progress, outdated, and no recent failure.

    The order matters: a build that ends during the tick must not count as outdated first and then as finished.
    """
    failed = dg.AutomationCondition.execution_failed() & FailedRecently()
    return ~dg.AutomationCondition.in_progress() & outdated & ~failed


def follow(upstream: Sequence[dg.AssetKey]) -> dg.AutomationCondition[Any]:
    """Returns the condition of an asset that follows upstream assets without a pause, unless a blocking check failed.

    If an upstream asset is requested in the same tick, both are built in the same run.
    """
    outdated: dg.AutomationCondition[Any] = dg.AutomationCondition.any_deps_match(
        dg.AutomationCondition.will_be_requested()
    )
    for asset in upstream:
        outdated = Outdated(asset) | outdated
    return build_when(outdated) & ~dg.AutomationCondition.any_deps_match(_UNSOUND)


def build_on_update(updated: dg.AutomationCondition[Any]) -> dg.AutomationCondition[Any]:
    """Returns the full condition of an asset that is built after an update, but not for updates before its creation.

    Args:
        updated: True in the tick of an update.
    """
    # `newly_updated` alone would miss updates during a build. A superfluous request is skipped.
    return build_when(
        updated.since(dg.AutomationCondition.newly_requested())
        | (dg.AutomationCondition.execution_failed() & updated.since(dg.AutomationCondition.newly_updated()))
    )


def _read_memory(cursor: str | None) -> tuple[int, dict[str, int]]:
    try:
        data = json.loads(cursor or "")
        return int(data["newest"]), {str(day): int(event) for day, event in data["waiting"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0, {}


def _events(value: dg.MetadataValue[Any] | None) -> dict[str, int]:
    found = value.value if value is not None else None
    if not isinstance(found, dict):
        return {}
    return {str(asset): int(event) for asset, event in found.items() if isinstance(event, int)}


def _number(value: dg.MetadataValue[Any] | None) -> float:
    found = value.value if value is not None else 0
    return float(found) if isinstance(found, int | float) else 0.0


keep_tables_current = RestingAutomation(
    "keep_tables_current",
    target=dg.AssetSelection.groups("day_tables", "summaries", "tracks", "events", "reports", "redetections"),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=10,
    run_tags={WORK_TAG: "tables", MAX_RUNTIME_TAG: _LONGEST_RUN_S, PROCESS_TABLE_TAG: describe_table()},
    emit_backfills=True,
    use_user_code_server=True,
    description="Rebuilds the tables of each day that has new frames, including past days. Pauses between two builds "
    "of a day for twenty times the duration of the last run: at least one minute, at most three minutes. After a run "
    "of more than one minute, pauses for three times its duration.",
)
