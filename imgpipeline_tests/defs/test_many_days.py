"""A folder of 400 days becomes one backfill of a few range runs, on the real graph with the daemon's evaluator."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor
from dagster._core.definitions.automation_tick_evaluation_context import (
    AutomationTickEvaluationContext,
    build_run_requests_with_backfill_policies,
)

from imgpipeline.definitions import defs
from imgpipeline.defs.automation import keep_tables_current

FIRST = date(2024, 1, 1)
DAILY = {
    "frames", "detections", "dead_letters", "notices", "label_counts", "label_timestamps", "label_totals",
    "frame_stats", "source_activity", "tracks", "track_points", "unique_objects", "unique_totals", "daily_report",
}  # fmt: skip
LIMIT_OF_A_TICK_S = 60.0


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def tick(instance: dg.DagsterInstance) -> Sequence[dg.RunRequest]:
    """Evaluate the sensor's conditions and return what it asks the daemon for."""
    graph = defs.resolve_asset_graph()
    evaluation = AutomationTickEvaluationContext(
        evaluation_id=1,
        instance=instance,
        asset_graph=graph,
        cursor=AssetDaemonCursor.empty(),
        materialize_run_tags={},
        observe_run_tags={},
        auto_observe_asset_keys=set(),
        asset_selection=keep_tables_current.asset_selection,
        logger=logging.getLogger(__name__),
        emit_backfills=keep_tables_current.emit_backfills,
    )
    return evaluation.evaluate()[0]


def runs_of(request: dg.RunRequest, instance: dg.DagsterInstance) -> Sequence[dg.RunRequest]:
    """Return the runs that a requested backfill is split into, by the assets' backfill policies."""
    subset = request.asset_graph_subset
    assert subset is not None
    graph = defs.resolve_asset_graph()
    return build_run_requests_with_backfill_policies(list(subset.iterate_asset_partitions()), graph, instance)


def announce(instance: dg.DagsterInstance, days: Sequence[date]) -> None:
    for day in days:
        instance.report_runless_asset_event(dg.AssetMaterialization("frame_metadata", partition=day.isoformat()))


@pytest.mark.medium
def test_four_hundred_days_are_one_backfill_of_one_run(instance: dg.DagsterInstance) -> None:
    days = [FIRST + timedelta(days=n) for n in range(400)]
    announce(instance, days)
    began_s = time.monotonic()
    (request,) = tick(instance)
    assert time.monotonic() - began_s < LIMIT_OF_A_TICK_S
    assert request.asset_graph_subset is not None
    asked: dict[str, set[str]] = defaultdict(set)
    for found in request.asset_graph_subset.iterate_asset_partitions():
        asked[found.asset_key.to_user_string()].add(str(found.partition_key))
    assert asked == {name: {day.isoformat() for day in days} for name in DAILY}
    (run,) = runs_of(request, instance)
    assert (run.partition_key_range.start, run.partition_key_range.end) == (str(days[0]), str(days[-1]))
    assert {key.to_user_string() for key in run.asset_selection or ()} == DAILY


@pytest.mark.medium
def test_days_with_gaps_are_one_run_per_stretch(instance: dg.DagsterInstance) -> None:
    days = [FIRST + timedelta(days=n) for n in range(400) if n % 100 != 99]
    announce(instance, days)
    (request,) = tick(instance)
    assert len(runs_of(request, instance)) == 4


@pytest.mark.medium
def test_one_day_is_one_run_without_a_backfill(instance: dg.DagsterInstance) -> None:
    announce(instance, [FIRST])
    (request,) = tick(instance)
    assert request.asset_graph_subset is None
    assert request.partition_key == str(FIRST)
    assert {key.to_user_string() for key in request.asset_selection or ()} == DAILY


def test_without_new_events_nothing_is_requested(instance: dg.DagsterInstance) -> None:
    assert tick(instance) == []
