"""Dagster watches for events while frames arrive, shows the alerts, and is idle otherwise."""

from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.alerts import ALERTS, CHECK, events_sensor, watch_events
from imgpipeline.defs.resources import Pipeline
from imgpipeline.events.alerts.chain import read_alerts
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.defs.keeping import announce
from imgpipeline_tests.events.samples import CHANGE, rotated, stored_frames
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.servers.ports import free_port

pytestmark = pytest.mark.medium


@pytest.fixture
def store(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A store with ten frames, two of which differ from the one before, and a rule that finds those."""
    (tmp_path / "rules.toml").write_text(CHANGE)
    monkeypatch.setenv("IMGPIPELINE_RULES_FILE", str(tmp_path / "rules.toml"))
    monkeypatch.setenv("IMGPIPELINE_ALERT_MAX_AGE_S", "1e8")
    write_chain(store, stored_frames(store, rotated()))
    return store


def run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return watch_events.execute_in_process(
        instance=instance,
        resources={"pipeline": Pipeline()},
        run_config={"ops": {"watch_ledger": {"config": {"idle_s": 0.1}}}},
        raise_on_error=False,
    )


def tick(instance: dg.DagsterInstance) -> str:
    """Return why a tick starts no run, or `run`."""
    with dg.build_sensor_context(instance=instance) as context:
        answer = events_sensor(context)
    return "run" if isinstance(answer, dg.SensorResult) else str(answer.skip_message)


def later(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    now = utc_now() + by

    def told() -> datetime:
        return now

    monkeypatch.setattr("imgpipeline.defs.alerts.utc_now", told)


def test_a_run_raises_alerts_and_shows_them_by_day(store, instance):
    assert run(instance).success
    assert [alert.number for alert in read_alerts(store)] == [1, 2]
    told = instance.get_latest_materialization_event(ALERTS).asset_materialization
    assert (told.partition, told.metadata["alerts"].value) == (DAY.isoformat(), 2)
    assert "the image differs" in str(told.metadata["latest"].value)
    assert str(told.metadata["sample"].value).startswith("![event images/")


def test_the_sensor_starts_a_run_when_frames_were_reported_that_no_run_has_seen(store, instance):
    assert tick(instance) == "No frame was processed since the last run."
    announce(instance, DAY)
    assert tick(instance) == "run"
    run(instance)
    assert tick(instance) == "No frame was processed since the last run."
    announce(instance, DAY)
    assert tick(instance) == "run"


def test_no_run_is_started_while_another_is_live(store, instance):
    announce(instance, DAY)
    instance.create_run_for_job(watch_events, status=dg.DagsterRunStatus.STARTED)
    assert tick(instance) == "A run is watching."


def test_without_rules_nothing_is_started(store, instance, monkeypatch):
    announce(instance, DAY)
    monkeypatch.setenv("IMGPIPELINE_RULES_FILE", "store")
    assert "rules put" in tick(instance)
    monkeypatch.delenv("IMGPIPELINE_RULES_FILE")
    assert tick(instance) == "IMGPIPELINE_RULES_FILE is not set."


def test_after_a_failed_run_the_next_one_waits(store, instance, monkeypatch):
    run(instance)
    store.put("alerts/0000000002.json", b"damaged")
    assert not run(instance).success
    assert "failed; the next one starts at" in tick(instance)
    later(monkeypatch, timedelta(seconds=11))
    assert tick(instance) == "run"


def test_what_a_target_refused_fails_the_check_and_is_delivered_by_a_later_run(store, instance, monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_ALERT_TARGETS", f"json://127.0.0.1:{free_port()}")
    run(instance)
    key = dg.AssetCheckKey(ALERTS, CHECK)
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    evaluation = record.event.dagster_event.event_specific_data
    assert (evaluation.passed, evaluation.metadata["undelivered"].value) == (False, 2)
    assert "imgpipeline alerts show 1 --json" in (evaluation.description or "")
    assert "The next delivery is due at" in tick(instance)
    later(monkeypatch, timedelta(minutes=2))
    assert tick(instance) == "run"
