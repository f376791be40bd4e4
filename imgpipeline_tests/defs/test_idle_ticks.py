"""Ticks of automation that cannot find anything are skipped, and no others."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.test_utils import freeze_time

from imgpipeline.definitions import defs
from imgpipeline.defs.automation import keep_tables_current
from imgpipeline.defs.idle_ticks import LONGEST_REST_IN_PAUSE_S, LONGEST_REST_S, NOTHING_NEW, PAUSED
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.defs.stored_days import add_frames, build

DAY = date(2026, 3, 1)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", (tmp_path / "store").as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return open_store(load_settings())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


class Server:
    """A code server that evaluates ticks of the automation sensor, each given a reference to Dagster's storage."""

    def __init__(self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.later_s = 0.0
        monkeypatch.setattr(keep_tables_current, "clock", lambda: time.monotonic() + self.later_s)
        self._ref = instance.get_ref()
        self._repository = defs.get_repository_def()
        self.cursor: str | None = None

    def tick(self, *, after_s: float = 0.0) -> SensorExecutionData:
        self.later_s += after_s
        context = dg.SensorEvaluationContext(
            instance_ref=self._ref,
            last_tick_completion_time=None,
            last_run_key=None,
            cursor=self.cursor,
            log_key=None,
            repository_name=self._repository.name,
            repository_def=self._repository,
            sensor_name=keep_tables_current.name,
            resources={},
        )
        with freeze_time(datetime.now(UTC) + timedelta(seconds=self.later_s)), context:
            told = keep_tables_current.evaluate_tick(context)
        self.cursor = told.cursor
        return told


@pytest.fixture
def server(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(instance, monkeypatch)


def announce(instance: dg.DagsterInstance, day: date = DAY) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("frame_metadata", partition=day.isoformat()))


def build_and_announce_again(store: ObjectStore, instance: dg.DagsterInstance) -> None:
    """Leave the day outdated, in the pause after its build."""
    add_frames(store, DAY, 0.6)
    announce(instance)
    assert build(instance, DAY).success
    announce(instance)


def requested(told: SensorExecutionData) -> set[str]:
    return {key.to_user_string() for request in told.run_requests or [] for key in request.asset_selection or []}


@pytest.mark.medium
def test_a_tick_without_news_is_skipped(server: Server) -> None:
    assert server.tick().skip_message != NOTHING_NEW, "the first one looks at everything"
    cursor = server.cursor
    assert server.tick().skip_message == NOTHING_NEW
    assert server.cursor == cursor


@pytest.mark.medium
def test_a_day_that_is_reported_is_requested_by_the_next_tick(
    store: ObjectStore, instance: dg.DagsterInstance, server: Server
) -> None:
    server.tick()
    assert server.tick().skip_message == NOTHING_NEW
    announce(instance)
    assert "frames" in requested(server.tick())


@pytest.mark.slow
def test_a_day_that_waits_for_its_pause_is_requested_when_the_pause_is_over(
    store: ObjectStore, instance: dg.DagsterInstance, server: Server
) -> None:
    """No event tells that a pause is over."""
    build_and_announce_again(store, instance)
    assert not requested(server.tick()), "just built"
    assert "frames" in requested(server.tick(after_s=300))


@pytest.mark.medium
def test_ticks_rest_while_all_outdated_days_are_paused_but_not_for_long(
    store: ObjectStore, instance: dg.DagsterInstance, server: Server
) -> None:
    """A detection run reports its days every few seconds."""
    build_and_announce_again(store, instance)
    server.tick()
    announce(instance)
    assert server.tick(after_s=LONGEST_REST_IN_PAUSE_S / 2).skip_message == PAUSED
    announce(instance, DAY - timedelta(days=1))
    assert "frames" in requested(server.tick(after_s=LONGEST_REST_IN_PAUSE_S / 2 + 1)), "another day had news"


@pytest.mark.medium
def test_a_request_that_was_lost_with_the_daemon_is_made_again(
    store: ObjectStore, instance: dg.DagsterInstance, server: Server
) -> None:
    announce(instance)
    assert requested(server.tick())
    server.cursor = None
    assert requested(server.tick()), "no event came, and the day still waits"


@pytest.mark.medium
def test_ticks_rest_again_once_everything_is_built(
    store: ObjectStore, instance: dg.DagsterInstance, server: Server
) -> None:
    add_frames(store, DAY, 0.6)
    announce(instance)
    assert requested(server.tick())
    assert build(instance, DAY).success
    assert server.tick().skip_message != NOTHING_NEW, "the build's events"
    assert server.tick().skip_message == NOTHING_NEW


@pytest.mark.medium
def test_everything_is_compared_once_a_minute(server: Server) -> None:
    server.tick()
    assert server.tick().skip_message == NOTHING_NEW
    assert server.tick(after_s=LONGEST_REST_S).skip_message != NOTHING_NEW
