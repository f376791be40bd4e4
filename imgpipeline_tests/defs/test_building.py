"""Builds of days in a folder store, with Dagster's storage in memory."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from imgpipeline.contracts.keys import ChainId, day_table_key, segment_key
from imgpipeline.contracts.outcomes import Frame, make_frame_id
from imgpipeline.defs.assets.daily import STEP
from imgpipeline.defs.lost_runs import describe_process
from imgpipeline.defs.run_tags import PROCESS_TAG, read_noted
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import ChainEnd
from imgpipeline.ledger.segment import Provenance
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.defs.stored_days import build

DAY = date(2026, 3, 1)
FRAMES = dg.AssetKey("frames")

pytestmark = pytest.mark.medium


def chain_of(day: date) -> ChainId:
    return ChainId("frames", "id", day.toordinal() % 1000)


def add_frame(store: ObjectStore, day: date) -> None:
    """Write a segment with one frame of a day to a separate chain."""
    time = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    chain = chain_of(day)
    frame = Frame(
        frame_id=make_frame_id("camera", time, 0), source="camera", source_image_path="images/camera/gone.jpg",
        frame_number=0, timestamp=time, topic=chain.topic, partition=chain.partition, offset=0,
        processing_timestamp=time, image_width=10, image_height=10, size_bytes=1, brightness=0, sharpness=0,
        model_used="m", model_sha256="0" * 64, confidence_threshold=0.5, nms_threshold=0.4,
    )  # fmt: skip
    ChainWriter(store, ChainEnd(chain, 0, None), DayIndex(store)).append(
        [frame], provenance=Provenance("m", "0" * 64, "h", "r"), writer_id=uuid4().hex, fingerprint=None,
        created_at=time,
    )  # fmt: skip


def said_of(instance: dg.DagsterInstance, asset: dg.AssetKey, day: date) -> Mapping[str, dg.MetadataValue[Any]] | None:
    wanted = dg.AssetRecordsFilter(asset, asset_partitions=[day.isoformat()])
    for record in instance.fetch_materializations(wanted, limit=1).records:
        return record.asset_materialization.metadata if record.asset_materialization else None
    return None


def test_a_build_shows_its_process_rows_and_size_and_the_next_one_skips_unless_it_is_forced(store, instance):
    """The image of the only frame is missing: there is no preview, and the build does not fail."""
    add_frame(store, DAY)
    skipped = []
    for config in ({}, {}, {"force": True}):
        result = build(instance, DAY, **config)
        assert result.success
        said = said_of(instance, FRAMES, DAY)
        assert said is not None
        skipped.append(said["skipped"].value)
    assert skipped == [False, True, False]
    assert said["dagster/row_count"].value == 1
    assert said["size_bytes"].value == len(store.get(day_table_key("frames", DAY)))
    assert "sample" not in (said_of(instance, dg.AssetKey("detections"), DAY) or {})
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert read_noted(run, PROCESS_TAG) == describe_process()


def test_a_day_that_cannot_be_built_is_named_and_does_not_stop_the_others(store, instance):
    days = [DAY + timedelta(days=n) for n in range(3)]
    for day in days:
        add_frame(store, day)
    bad = day_table_key("frames", days[1])
    store.put(bad, b"this is not a Parquet file")
    result = build(instance, days[0], days[2])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure and event.step_key == STEP]
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert "day_tables of 2026-03-02 (3 days requested)" in str(data.description)
    assert [said_of(instance, FRAMES, day) is not None for day in days] == [True, False, True]


def test_the_failure_names_the_key_of_a_damaged_segment(store, instance):
    add_frame(store, DAY)
    key = segment_key(chain_of(DAY), 0)
    store.put(key, b"rotten")
    result = build(instance, DAY)
    assert not result.success
    (failure, *_) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_failure_data.user_failure_data is not None
    assert key in str(failure.step_failure_data.user_failure_data.description)


def test_an_empty_day_is_built_too(store, instance):
    assert build(instance, DAY).success
    said = said_of(instance, FRAMES, DAY)
    assert said is not None
    assert said["dagster/row_count"].value == 0


@pytest.mark.parametrize("count", [1, 2])
def test_a_table_that_is_requested_alone_is_built_and_reported_with_the_others(store, instance, count):
    days = [DAY + timedelta(days=n) for n in range(count)]
    for day in days:
        add_frame(store, day)
    assert build(instance, *days, select=["detections", "label_counts"]).success
    for day in days:
        for name in ("frames", "detections", "dead_letters", "notices", "label_counts"):
            said = said_of(instance, dg.AssetKey(name), day)
            assert said is not None
            assert said["skipped"].value is False
        assert said_of(instance, dg.AssetKey("frame_stats"), day) is None


def test_a_range_of_days_that_do_not_exist_fails_with_a_message(store, instance):
    result = build(instance, date(1990, 1, 1), date(1990, 1, 2))
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "No day was requested" in str(failure.step_failure_data.user_failure_data)
    assert not list(store.list_objects("frames"))
