"""What the sensor stored last tells other machines whether it runs, even if their clocks differ."""

from datetime import UTC, datetime, timedelta

import pytest

from imgpipeline.detect.state import DetectionState

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
STORED_EVERY_S = 35


@pytest.mark.parametrize("wrong_s", [-120, 0, 120])
def test_a_sensor_that_runs_is_not_reported_as_off_by_a_machine_with_a_wrong_clock(wrong_s):
    state = DetectionState(at=NOON)
    now = NOON + timedelta(seconds=STORED_EVERY_S + wrong_s)

    assert state.problems(now) == []


@pytest.mark.parametrize("wrong_s", [-120, 0, 120])
def test_a_sensor_that_is_off_is_reported_within_six_minutes(wrong_s):
    state = DetectionState(at=NOON)
    now = NOON + timedelta(minutes=6, seconds=1 + wrong_s)

    assert len(state.problems(now)) == 1
