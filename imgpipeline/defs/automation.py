"""Keeps the tables up to date: the condition under which a day is rebuilt, and the sensor that evaluates it.

Dagster's own conditions react to changes ("updated since the last tick"). An update that arrives while a build runs,
during a pause, or while the conditions themselves change can be forgotten, and with it the last frames of a day.
`Outdated` looks at the state instead: a build records the newest upstream event it started with (`UPSTREAM_EVENT`), and
a day is outdated as long as there is a newer one. An event is stored after the segments it reports, so a build that has
seen the event sees them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg

from imgpipeline.defs.idle_ticks import RestingAutomation, note_waiting
from imgpipeline.defs.processes import describe_table
from imgpipeline.defs.retries import FailedRecently
from imgpipeline.defs.run_tags import PROCESS_TABLE_TAG, WORK_TAG
from imgpipeline.defs.versions import SeenEvents

UPSTREAM_EVENT = "upstream_event"
"""Metadata of a build: by upstream asset, the storage id of the newest materialization that existed when it began."""
BUILD_SECONDS = "build_s"
"""Metadata of a build: how long it took, in seconds."""
SHORTEST_PAUSE_S = 60.0
"""A day is not built again before this pause is over."""
PAUSE_PER_BUILD_S = 10.0
"""Nor before this many times the duration of its last build has passed: builds take at most a tenth of the time."""
LONGEST_PAUSE_S = 180.0
"""But no later than this. A build that took long because the machine was overloaded does not keep its day stale."""
LEAST_PAUSE_PER_BUILD_S = 3.0
"""Unless the build took longer than a third of that: long builds take a quarter of the time."""
_OVERLAP = 500
"""Events that are looked at again in each tick: PostgreSQL can show a smaller id after a greater one."""
_RECORDS_READ = 50
_LONGEST_RUN_S = "3600"
"""A run whose container was restarted is shown as started for this long, and its days wait. One that is ended before it
is done is requested again, and leaves out what it has built."""
_UNSOUND = dg.AutomationCondition.any_checks_match(
    dg.AutomationCondition.check_failed() & ~dg.AutomationCondition.will_be_requested(), blocking_only=True
).with_label("a blocking check has failed")
"""Dagster's own `all_deps_blocking_checks_passed` asks for a check that has passed; but a day of a range run, and one
whose history was lost, has none. Only one that has failed keeps others from following."""


@dataclass(frozen=True, slots=True)
class Build:
    """The last build of one day."""

    upstream_events: Mapping[str, int]
    """Newest event of each upstream asset it began with, by the asset's name; empty if it noted none."""
    ended_at_s: float
    """When it ended, Unix time in seconds."""
    duration_s: float
    """How long it took, in seconds."""

    def is_due(self, now_s: float, shortest_pause_s: float) -> bool:
        """Tells whether the pause after this build is over."""
        if not shortest_pause_s:
            return now_s >= self.ended_at_s
        longest_s = max(LONGEST_PAUSE_S, LEAST_PAUSE_PER_BUILD_S * self.duration_s)
        pause_s = max(shortest_pause_s, min(longest_s, PAUSE_PER_BUILD_S * self.duration_s))
        return now_s >= self.ended_at_s + pause_s


class Outdated(dg.AutomationCondition[dg.AssetKey]):
    """True for the days whose upstream has an event that their last build had not seen, when its pause is over.

    Its memory between ticks only saves work: without it, all days are compared once.
    """

    def __init__(self, upstream: dg.AssetKey, shortest_pause_s: float = 0.0) -> None:
        """Sets what to compare with.

        Args:
            upstream: The asset whose events make a day outdated.
            shortest_pause_s: Pause after a build, in seconds; 0 for none. Long builds make it longer.
        """
        self._upstream = upstream
        self._shortest_pause_s = shortest_pause_s

    @property
    def description(self) -> str:
        """What the UI says of this condition."""
        pause = f", {self._shortest_pause_s:.0f} s to 3 min after it" if self._shortest_pause_s else ""
        return f"{self._upstream.to_user_string()} has news since the last build{pause}"

    @property
    def name(self) -> str:
        """What the UI calls this condition."""
        return f"outdated({self._upstream.to_user_string()})"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compares the days that have news, or were left outdated in the tick before."""
        instance = context.asset_graph_view.instance
        newest, waiting = _read_memory(context.cursor)
        news = newest_events(instance, self._upstream, after=max(0, newest - _OVERLAP) or None)
        candidates = {**waiting, **news}
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
            cursor=json.dumps({"newest": max([newest, *news.values()]), "waiting": outdated}),
        )


class NotLookedAt(dg.AutomationCondition[dg.AssetKey]):
    """True for the day that was built last, when no day was built for a while: a sign of life when no frames arrive."""

    def __init__(self, after_s: float) -> None:
        """Sets after how many seconds without a build."""
        self._after_s = after_s

    @property
    def description(self) -> str:
        """What the UI says of this condition."""
        return f"no day was built for {self._after_s / 3600:.0f} h"

    @property
    def name(self) -> str:
        """What the UI calls this condition."""
        return "not_looked_at"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Looks at the newest build."""
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
        asset: Whose materializations.
        days: Which partitions; default: all.
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


def seen_events(
    context: dg.AssetExecutionContext, upstream: Iterable[dg.AssetKey], days: Iterable[date]
) -> dict[date, SeenEvents]:
    """Returns the newest upstream events of each day; to be asked before a build reads anything."""
    by_key = {day.isoformat(): day for day in days}
    found = {asset: newest_events(context.instance, asset, days=by_key) for asset in upstream}
    return {
        day: SeenEvents({asset: events.get(key, 0) for asset, events in found.items()}) for key, day in by_key.items()
    }


def build_when(outdated: dg.AutomationCondition[Any]) -> dg.AutomationCondition[Any]:
    """Returns the full condition: not being built, outdated, and after a failed build not before a pause is over.

    In this order: a build that ends during the tick would be found outdated first, and then no longer in progress.
    """
    failed = dg.AutomationCondition.execution_failed() & FailedRecently()
    return ~dg.AutomationCondition.in_progress() & outdated & ~failed


def follow(upstream: Sequence[dg.AssetKey]) -> dg.AutomationCondition[Any]:
    """Returns the condition of an asset that follows others at once: outdated by one of them, and none is unsound.

    An upstream asset that is requested in the same tick is built in the same run.
    """
    outdated: dg.AutomationCondition[Any] = dg.AutomationCondition.any_deps_match(
        dg.AutomationCondition.will_be_requested()
    )
    for asset in upstream:
        outdated = Outdated(asset) | outdated
    return build_when(outdated) & ~dg.AutomationCondition.any_deps_match(_UNSOUND)


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
    run_tags={WORK_TAG: "tables", "dagster/max_runtime": _LONGEST_RUN_S, PROCESS_TABLE_TAG: describe_table()},
    emit_backfills=True,
    use_user_code_server=True,
    description="Builds days with new segments after detection runs, including late and old days, each after a pause "
    "of ten times the duration of its last build, from one to three minutes (three times its duration if it took "
    "longer than a minute).",
)
