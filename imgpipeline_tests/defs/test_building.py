"""Builds of days in a folder store, with Dagster's storage in memory."""

from datetime import date, timedelta

import pytest

from imgpipeline.contracts.keys import day_table_key, segment_key
from imgpipeline.defs.assets.daily import STEP
from imgpipeline.defs.lost_runs import describe_process
from imgpipeline.defs.run_tags import PROCESS_TAG, read_noted
from imgpipeline_tests.defs.stored_days import add_frames, build, chain_of, newest

DAY = date(2026, 3, 1)

pytestmark = pytest.mark.medium


@pytest.mark.slow
def test_a_build_shows_its_process_rows_and_size_and_the_next_one_skips_unless_it_is_forced(store, instance):
    """The image of the only frame is missing: there is no preview, and the build does not fail."""
    add_frames(store, DAY, 0.6)
    skipped = []
    for config in ({}, {}, {"force": True}):
        result = build(instance, DAY, **config)
        assert result.success
        said = newest(instance, "frames", DAY).metadata
        skipped.append(said["skipped"].value)
    assert skipped == [False, True, False]
    assert said["dagster/row_count"].value == 1
    assert said["size_bytes"].value == len(store.get(day_table_key("frames", DAY)))
    assert "sample" not in newest(instance, "detections", DAY).metadata
    assert read_noted(instance.get_run_by_id(result.run_id), PROCESS_TAG) == describe_process()


@pytest.mark.slow
def test_a_day_that_cannot_be_built_is_named_and_does_not_stop_the_others(store, instance):
    days = [DAY + timedelta(days=n) for n in range(3)]
    for day in days:
        add_frames(store, day, 0.6)
    bad = day_table_key("frames", days[1])
    store.put(bad, b"this is not a Parquet file")
    result = build(instance, days[0], days[2])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure and event.step_key == STEP]
    said = failure.step_failure_data.user_failure_data.description
    assert "day_tables of 2026-03-02 (3 days requested)" in str(said)
    assert [newest(instance, "frames", day) is not None for day in days] == [True, False, True]


def test_the_failure_names_the_key_of_a_damaged_segment(store, instance):
    add_frames(store, DAY, 0.6)
    key = segment_key(chain_of(DAY), 0)
    store.put(key, b"rotten")
    result = build(instance, DAY)
    assert not result.success
    (failure, *_) = [event for event in result.all_events if event.is_step_failure]
    assert key in str(failure.step_failure_data.user_failure_data.description)


def test_an_empty_day_is_built_too(store, instance):
    assert build(instance, DAY).success
    assert newest(instance, "frames", DAY).metadata["dagster/row_count"].value == 0


@pytest.mark.parametrize("count", [1, 2])
def test_a_table_that_is_requested_alone_is_built_and_reported_with_the_others(store, instance, count):
    days = [DAY + timedelta(days=n) for n in range(count)]
    for day in days:
        add_frames(store, day, 0.6)
    assert build(instance, *days, select=["detections", "label_counts"]).success
    for day in days:
        for name in ("frames", "detections", "dead_letters", "notices", "label_counts"):
            assert newest(instance, name, day).metadata["skipped"].value is False
        assert newest(instance, "frame_stats", day) is None


@pytest.mark.parametrize("days", [(date(1990, 1, 1), date(1990, 1, 2)), (DAY + timedelta(days=1), DAY)])
def test_a_range_of_days_that_do_not_exist_or_are_reversed_fails_with_a_message(store, instance, days):
    result = build(instance, *days)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "No day was requested" in str(failure.step_failure_data.user_failure_data)
    assert not list(store.list_objects("frames"))
