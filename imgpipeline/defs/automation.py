"""Keeps the tables up to date: the conditions that request builds of days, and the sensor that evaluates them.

Dagster's own conditions react to changes ("updated since the last tick"). They can miss an update that arrives during a
build, during a pause, or while the conditions themselves change, and with it the last frames of a day. `Outdated`
compares states instead: a build records the newest upstream event that existed when it started (`UPSTREAM_EVENT`), and
a day is outdated while there is a newer one. Segments are written before the event that reports them, so a build that
knows an event also reads its segments.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from imgpipeline.defs.idle_ticks import RestingAutomation, note_waiting
from imgpipeline.defs.lost_runs import describe_table
from imgpipeline.defs.retries import FailedRecently
from imgpipeline.defs.run_tags import MAX_RUNTIME_TAG, PROCESS_TABLE_TAG, WORK_TAG

UPSTREAM_EVENT = "upstream_event"
"""Metadata of a build: storage id of the newest materialization of each upstream asset when the build started."""
BUILD_SECONDS = "build_s"
"""Metadata of a build: its duration in seconds."""
SHORTEST_PAUSE_S = 60.0
"""Lower limit of the pause between two builds of a day."""
PAUSE_PER_BUILD_S = 10.0
"""The pause, as a multiple of the duration of the last build, so builds take at most about a tenth of the time."""
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

    def is_due(self, now_s: float, shortest_pause_s: float) -> bool:
        """Tells whether the pause after this build is over."""
        if not shortest_pause_s:
            return now_s >= self.ended_at_s
        longest_s = max(LONGEST_PAUSE_S, LEAST_PAUSE_PER_BUILD_S * self.duration_s)
        pause_s = max(shortest_pause_s, min(longest_s, PAUSE_PER_BUILD_S * self.duration_s))
        return now_s >= self.ended_at_s + pause_s


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
        note_waiting(f"{self.name} of {context.key.to_user_string()}", waits=bool(outdated))
        now_s = context.evaluation_time.timestamp()
        due = {d for d in outdated if d not in builds or builds[d].is_due(now_s, self._shortest_pause_s)}
        partitions = context.partitions_def
        known = {d for d in due if partitions is not None and partitions.has_partition_key(d)}
        return dg.AutomationResult(
            context,
            context.candidate_subset.compute_intersection_with_partition_keys(known),
            cursor=json.dumps({"newest": max([newest, *fresh.values()]), "waiting": outdated}),
        )


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
                builds[said.partition] = Build(events, record.timestamp, _number(said.metadata.get(BUILD_SECONDS)))
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
    "of a day for ten times the duration of the last build: at least one minute, at most three minutes. After a build "
    "of more than one minute, pauses for three times its duration.",
)
