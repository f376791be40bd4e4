"""The freshness of `label_counts`, by Dagster's evaluator: it fails if the pipeline stops, not if cameras are off."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import TimeWindowFreshnessPolicyEvaluator
from dagster._core.loader import LoadingContextForTest
from dagster._time import get_current_timestamp

from imgpipeline.definitions import defs
from imgpipeline.defs.assets.daily import FRESH_WITHIN
from imgpipeline.defs.keep_tables import SIGN_OF_LIFE_S, sign_of_life

DAY = "2026-03-01"
COUNTS = dg.AssetKey("label_counts")


def state_after(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, hours: float) -> FreshnessState:
    """Return the state a number of hours from now."""
    later = get_current_timestamp() + hours * 3600
    monkeypatch.setattr("dagster._core.definitions.freshness_evaluator.get_current_timestamp", lambda: later)
    node = defs.resolve_asset_graph().get(COUNTS)
    evaluator = TimeWindowFreshnessPolicyEvaluator()
    return asyncio.run(evaluator.evaluate_freshness(LoadingContextForTest(instance), node))


def build(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("label_counts", partition=DAY))


def test_without_a_single_build_nothing_is_claimed(instance, monkeypatch):
    assert state_after(instance, monkeypatch, 1000) is FreshnessState.UNKNOWN


@pytest.mark.parametrize(
    ("hours", "state"), [(13, FreshnessState.PASS), (15, FreshnessState.WARN), (27, FreshnessState.FAIL)]
)
def test_a_pipeline_that_stands_still_is_told_of(instance, monkeypatch, hours, state):
    build(instance)
    assert state_after(instance, monkeypatch, hours) is state


@pytest.mark.medium
def test_cameras_that_are_off_are_not_told_of_because_the_last_day_is_built_again_before(instance):
    last, states = date.fromisoformat(DAY), {date.fromisoformat(DAY): {}, date(2026, 2, 1): {}}
    assert sign_of_life(instance, states, datetime.now(UTC)) == [], "without a single build nothing is claimed"
    build(instance)
    early, late = (datetime.now(UTC) + timedelta(seconds=SIGN_OF_LIFE_S + more_s) for more_s in (-60, 60))
    assert sign_of_life(instance, states, early) == []
    (run,) = sign_of_life(instance, states, late)
    assert (run.days, "label_counts" in run.objects) == ((last,), True)
    assert FRESH_WITHIN.warn_window.to_timedelta().total_seconds() > SIGN_OF_LIFE_S + 3600
