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
from imgpipeline.defs.idle_ticks import LONGEST_REST_S
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.defs.stored_days import add_frames, build

DAY = date(2026, 3, 1)
SKIPPED = "Nothing new: no event since the last evaluation, and no outdated day."


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

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._ref = instance.get_ref()
        self._repository = defs.get_repository_def()
        self.cursor: str | None = None

    def tick(self, *, after_s: float = 0.0) -> SensorExecutionData:
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
        with freeze_time(datetime.now(UTC) + timedelta(seconds=after_s)), context:
            told = keep_tables_current.evaluate_tick(context)
        self.cursor = told.cursor
        return told


@pytest.fixture
def server(instance: dg.DagsterInstance) -> Server:
    return Server(instance)


def announce(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("frame_metadata", partition=DAY.isoformat()))


def requested(told: SensorExecutionData) -> set[str]:
    return {key.to_user_string() for request in told.run_requests or [] for key in request.asset_selection or []}


@pytest.mark.medium
def test_a_tick_without_news_is_skipped(server: Server) -> None:
    assert server.tick().skip_message != SKIPPED, "the first one looks at everything"
    cursor = server.cursor
    assert server.tick().skip_message == SKIPPED
    assert server.cursor == cursor


@pytest.mark.medium
def test_a_day_that_is_reported_is_requested_by_the_next_tick(
    store: ObjectStore, instance: dg.DagsterInstance, server: Server
) -> None:
    server.tick()
    assert server.tick().skip_message == SKIPPED
    announce(instance)
    assert "frames" in requested(server.tick())


@pytest.mark.slow
def test_a_day_that_waits_for_its_pause_is_requested_when_the_pause_is_over(
    store: ObjectStore, instance: dg.DagsterInstance, server: Server
) -> None:
    """No event tells that a pause is over."""
    add_frames(store, DAY, 0.6)
    announce(instance)
    assert build(instance, DAY).success
    announce(instance)
    told = server.tick()
    assert not requested(told), "just built"
    assert server.tick().skip_message != SKIPPED
    assert "frames" in requested(server.tick(after_s=300))


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
    assert server.tick().skip_message != SKIPPED, "the build's events"
    assert server.tick().skip_message == SKIPPED


@pytest.mark.medium
def test_everything_is_compared_once_a_minute(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr(keep_tables_current, "clock", lambda: now_s)
    server.tick()
    assert server.tick().skip_message == SKIPPED
    now_s += LONGEST_REST_S
    assert server.tick().skip_message != SKIPPED
