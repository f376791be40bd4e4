"""The freshness of `label_counts`, by Dagster's evaluator: it fails if the pipeline stops, not if cameras are off."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest
from dagster._time import get_current_timestamp

from imgpipeline.definitions import defs
from imgpipeline.defs.assets.day_tables import LOOK_AGAIN_S
from imgpipeline.defs.assets.summaries import FRESH_WITHIN

DAY = "2026-03-01"
COUNTS = dg.AssetKey("label_counts")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def state_after(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, hours: float) -> FreshnessState:
    """Return the state a number of hours from now."""
    later = get_current_timestamp() + hours * 3600
    monkeypatch.setattr("dagster._core.definitions.freshness_evaluator.get_current_timestamp", lambda: later)
    node = defs.resolve_asset_graph().get(COUNTS)
    evaluator = TimeWindowFreshnessPolicyEvaluator()
    return asyncio.run(evaluator.evaluate_freshness(LoadingContextForTest(instance), node))


def requested_after(instance: dg.DagsterInstance, hours: float) -> dict[str, set[str]]:
    """Return what automation requests a number of hours from now, if no frame arrives until then."""
    at = datetime.now(UTC) + timedelta(hours=hours)
    result = dg.evaluate_automation_conditions(defs, instance, evaluation_time=at)
    return {
        name: set(result.get_requested_partitions(dg.AssetKey(name)))
        for name in ("frames", "detections", "label_counts")
    }


def build(instance: dg.DagsterInstance) -> None:
    seen: dict[str, int] = {}
    for name, upstream in (("frame_metadata", None), ("frames", "frame_metadata"), ("detections", "frame_metadata"),
                           ("dead_letters", "frame_metadata"), ("label_counts", "detections")):  # fmt: skip
        said = {"upstream_event": {upstream: seen[upstream]}} if upstream else {}
        instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=DAY, metadata=said))
        event = instance.get_latest_materialization_event(dg.AssetKey(name))
        records = instance.fetch_materializations(dg.AssetKey(name), limit=1).records
        assert event is not None
        seen[name] = records[0].storage_id


def test_without_a_single_build_nothing_is_claimed(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state_after(instance, monkeypatch, 1000) is FreshnessState.UNKNOWN


@pytest.mark.parametrize(
    ("hours", "state"), [(13, FreshnessState.PASS), (15, FreshnessState.WARN), (27, FreshnessState.FAIL)]
)
def test_a_pipeline_that_stands_still_is_told_of(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, hours: float, state: FreshnessState
) -> None:
    build(instance)
    assert state_after(instance, monkeypatch, hours) is state


@pytest.mark.medium
def test_cameras_that_are_off_are_not_told_of_because_the_last_day_is_looked_at_again_before(
    instance: dg.DagsterInstance,
) -> None:
    build(instance)
    look_again_h = LOOK_AGAIN_S / 3600
    assert requested_after(instance, look_again_h - 0.1) == {
        "frames": set(),
        "detections": set(),
        "label_counts": set(),
    }
    assert requested_after(instance, look_again_h + 0.1) == {
        "frames": {DAY},
        "detections": {DAY},
        "label_counts": {DAY},
    }
    warned_after = FRESH_WITHIN.warn_window
    assert warned_after is not None
    assert warned_after.to_timedelta().total_seconds() > LOOK_AGAIN_S + 3600
