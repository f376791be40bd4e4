"""What `keep_tables_current` requests, with the real definitions, a folder store, and Dagster's storage in memory."""

import json
import os
from datetime import date, timedelta

import dagster as dg
import pytest

from imgpipeline.contracts.keys import day_table_key, summary_key
from imgpipeline.contracts.times import utc_now
from imgpipeline.definitions import defs
from imgpipeline.defs.keep_tables import is_starting
from imgpipeline.detect.state import DetectionState, write_state
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.defs.keeping import Keeping, announce, assets_of, days_of
from imgpipeline_tests.defs.stored_days import add_frames, newest
from imgpipeline_tests.faults.counting_relay import CountingRelay

DAY = date(2026, 3, 1)
DAYS = [DAY + timedelta(days=n) for n in range(3)]
ALL = {
    "frames", "detections", "dead_letters", "notices", "label_counts", "label_timestamps", "label_totals",
    "frame_stats", "source_activity", "tracks", "track_points", "unique_objects", "unique_totals", "daily_report",
}  # fmt: skip

pytestmark = pytest.mark.medium


@pytest.fixture
def keeping(store: ObjectStore, instance: dg.DagsterInstance) -> Keeping:
    return Keeping(store, instance)


@pytest.mark.fault(42)
def test_fault_42_a_new_day_is_found_without_any_event_built_once_and_then_left_alone(store, instance, keeping):
    add_frames(store, DAY, 0.6, 0.9)
    (request,) = keeping.requests()
    assert (assets_of(request), days_of(request)) == (ALL, (str(DAY), str(DAY)))
    (result,) = keeping.run([request])
    assert result.success
    assert all(newest(instance, name, DAY) for name in ALL)
    assert keeping.skip_message() == "Nothing to build: every day's tables are current, or wait for a person."
    assert keeping.requests(after_s=600) == []


def test_segments_after_a_build_are_built_when_the_pause_is_over(store, instance, keeping):
    add_frames(store, DAY, 0.6)
    keeping.run(keeping.requests())
    add_frames(store, DAY, 0.7, number=1, camera=1)
    announce(instance, DAY)
    assert keeping.skip_message(after_s=10).startswith("1 day to build. Waiting: 2026-03-01 until ")
    (request,) = keeping.requests(after_s=180)
    assert assets_of(request) == ALL


def test_an_event_wakes_the_sensor_and_does_not_decide(store, instance, keeping):
    assert keeping.requests() == []
    add_frames(store, DAY, 0.6)
    assert keeping.requests(after_s=15) == [], "nobody told it"
    announce(instance, DAYS[1])
    (request,) = keeping.requests(after_s=15)
    assert days_of(request) == (str(DAY), str(DAY))


def test_a_lost_summary_is_built_again_with_what_reads_it(store, keeping):
    add_frames(store, DAY, 0.6)
    keeping.run(keeping.requests())
    store.delete(summary_key("label_counts", DAY))
    (request,) = keeping.requests(after_s=200)
    assert assets_of(request) == {"label_counts", "label_totals", "daily_report"}


def test_a_damaged_table_waits_for_a_person(store, keeping):
    add_frames(store, DAY, 0.6)
    keeping.run(keeping.requests())
    store.put(day_table_key("detections", DAY), b"rotten")
    add_frames(store, DAYS[1], 0.6)
    (request,) = keeping.requests(after_s=200)
    assert days_of(request) == (str(DAYS[1]), str(DAYS[1]))


@pytest.mark.slow
def test_an_object_that_fails_stops_no_other_and_the_run_names_it(store, instance, keeping):
    add_frames(store, DAY, 0.6)
    keeping.run(keeping.requests())
    store.put(summary_key("label_counts", DAY), b"rotten")
    add_frames(store, DAY, 0.7, number=1, camera=1)
    (result,) = keeping.run(keeping.requests(after_s=200))
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    said = str(failure.step_failure_data.user_failure_data)
    assert "Could not be built: label_counts of 2026-03-01" in said
    told = newest(instance, "daily_report", DAY)
    assert told.metadata["detections"].value == 2, "it needs no summary"
    assert keeping.requests(after_s=4000) == [], "it waits for a person"


def test_a_lost_build_is_requested_again_after_ten_seconds(store, instance, keeping):
    """Its machine may be gone; the sensor does not wait for its next look."""
    add_frames(store, DAY, 0.6)
    (request,) = keeping.requests(after_s=0)
    job = defs.resolve_job_def("rebuild_days")
    lost = instance.create_run_for_job(
        job, tags={**job.tags, **request.tags}, asset_selection=frozenset(request.asset_selection)
    )
    instance.report_run_failed(lost)
    (again,) = keeping.requests(after_s=11)
    assert (assets_of(again), days_of(again)) == (assets_of(request), days_of(request))


@pytest.mark.slow
def test_consecutive_past_days_share_a_run(store, keeping):
    for day in (*DAYS, DAYS[2] + timedelta(days=2)):
        add_frames(store, day, 0.6)
    later, first = keeping.requests()
    assert days_of(first) == (str(DAYS[0]), str(DAYS[2]))
    assert days_of(later) == ("2026-03-05", "2026-03-05")
    (result,) = keeping.run([first])
    assert result.success
    assert [days_of(request) for request in keeping.requests()] == [("2026-03-05", "2026-03-05")]


@pytest.mark.servers
def test_a_tick_without_news_costs_a_few_requests_with_any_number_of_partitions(s3, bucket, instance, monkeypatch):
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    with CountingRelay(s3.port) as relay:
        monkeypatch.setenv("IMGPIPELINE_S3_ENDPOINT", relay.endpoint)
        store = open_store(load_settings())
        for number in range(20):
            add_frames(store, DAY, 0.6, number=number, camera=number)
        keeping = Keeping(store, instance)
        keeping.run(keeping.requests())
        later = keeping.now + timedelta(seconds=900)
        write_state(store, DetectionState(at=later, moved_at=keeping.now))  # what frames_sensor writes while it is on
        assert keeping.requests(after_s=600) == []
        before = relay.requests.total()
        for _ in range(4):
            assert "Nothing to build" in keeping.skip_message(after_s=61)
        assert relay.requests.total() - before <= 4 * 4


CELERY = {
    "module": "imgpipeline.defs.celery_launcher",
    "class": "WatchfulCeleryLauncher",
    "config": {"default_queue": "tables", "broker": "redis://localhost/0", "backend": "redis://localhost/1"},
}


@pytest.mark.parametrize(
    ("launcher", "is_held"), [({}, True), ({"run_launcher": CELERY}, False)], ids=["this machine", "Celery"]
)
def test_builds_wait_for_a_start_only_if_runs_execute_on_this_machine(tmp_path, monkeypatch, launcher, is_held):
    (tmp_path / "dagster.yaml").write_text(json.dumps(launcher))
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 99.0, 99.0))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        job = defs.resolve_job_def("detect_frames")
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert is_starting(instance, utc_now()) is is_held


def test_nothing_is_requested_while_a_detection_run_starts_on_a_busy_machine(store, keeping, monkeypatch):
    starting = True
    monkeypatch.setattr("imgpipeline.defs.keep_tables.is_starting", lambda *_: starting)
    add_frames(store, DAY, 0.6)
    assert "builds wait for at most a minute" in keeping.skip_message()
    assert keeping.requests(after_s=30) == []
    (request,) = keeping.requests(after_s=31)
    assert assets_of(request) == ALL, "detection runs of many lanes start one after the other"
    starting = False
    assert keeping.requests() != []
