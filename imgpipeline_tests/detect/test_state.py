"""What the sensor stored last tells other machines whether it runs, even if their clocks differ."""

import os
from datetime import timedelta

import pytest

from imgpipeline.contracts.keys import detection_state_key
from imgpipeline.contracts.times import utc_now
from imgpipeline.detect.state import DetectionState, read_state_by_store_clock, write_state
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.objectstore.conftest import store as store  # noqa: PLC0414 - a fixture

WRONG = [timedelta(minutes=-4), timedelta(0), timedelta(minutes=4)]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_sensor_that_runs_is_not_reported_as_off_by_a_machine_with_a_wrong_clock(store, wrong):
    write_state(store, DetectionState(at=utc_now()))
    now = utc_now() + wrong

    assert read_state_by_store_clock(store, now).problems(now) == []


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_sensor_on_a_machine_with_a_wrong_clock_is_not_reported_as_off(store, wrong):
    write_state(store, DetectionState(at=utc_now() + wrong))
    now = utc_now()

    assert read_state_by_store_clock(store, now).problems(now) == []


def test_a_sensor_that_is_off_is_reported_by_a_machine_whose_clock_is_ahead(tmp_path):
    store = open_store(Settings(store_url=tmp_path.as_uri()))
    write_state(store, DetectionState(at=utc_now()))
    stored = tmp_path / detection_state_key()
    os.utime(stored, (stored.stat().st_atime, stored.stat().st_mtime - 180))
    now = utc_now() + timedelta(minutes=4)

    assert len(read_state_by_store_clock(store, now).problems(now)) == 1


def test_a_sensor_is_off_in_a_store_that_was_just_restored_from_a_copy(store):
    now = utc_now()
    write_state(store, DetectionState(at=now - timedelta(days=1)))

    assert len(read_state_by_store_clock(store, now).problems(now)) == 1


def test_a_sensor_that_has_not_run_for_more_than_two_minutes_is_off():
    now = utc_now()

    assert DetectionState(at=now - timedelta(seconds=110)).problems(now) == []
    [problem] = DetectionState(at=now - timedelta(seconds=121)).problems(now)
    assert "it is off, or Dagster or Kafka is down" in problem
