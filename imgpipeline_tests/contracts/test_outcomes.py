"""Outcomes round-trip through JSON, and frame ids never change between releases."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import (
    Gap,
    GapReason,
    make_frame_id,
    make_frame_id_without_time,
    offsets_of,
    outcome_from_json,
    outcome_to_json,
)
from imgpipeline_tests.contracts.strategies import dead_letters, frames, gaps, outcomes
from imgpipeline_tests.ledger.samples import frame

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
EXAMPLE = replace(frame(41), detections=(Detection("car", 2, 0.875, (1.0, 2.0, 3.5, 4.0)),))


@given(outcomes)
def test_an_outcome_survives_json(outcome):
    line = json.dumps(outcome_to_json(outcome), ensure_ascii=False, allow_nan=False).encode()
    assert outcome_from_json(json.loads(line)) == outcome


@given(frames)
def test_a_frame_covers_its_offset_and_its_day_is_the_utc_day_of_its_own_time(frame):
    assert offsets_of(frame) == (frame.offset, frame.offset + 1)
    assert frame.day == frame.timestamp.date()


@given(dead_letters, gaps)
def test_a_dead_letter_covers_one_offset_and_a_gap_its_range(dead_letter, gap):
    assert offsets_of(dead_letter) == (dead_letter.offset, dead_letter.offset + 1)
    assert offsets_of(gap) == (gap.start, gap.end)


def test_the_day_is_the_utc_day_of_a_time_in_another_zone():
    east = timezone(timedelta(hours=9))
    document = outcome_to_json(EXAMPLE) | {}
    document["frame"]["timestamp"] = datetime(2026, 1, 10, 3, tzinfo=east).isoformat()
    assert outcome_from_json(document).day == date(2026, 1, 9)


def test_the_metadata_contract_has_exactly_these_fields():
    assert list(EXAMPLE.to_json()) == [
        "frame_id", "source", "source_image_path", "frame_number", "timestamp", "source_kafka_topic",
        "source_kafka_partition", "source_kafka_offset", "processing_timestamp", "image_width", "image_height",
        "size_bytes", "brightness", "sharpness", "model_used", "model_sha256", "confidence_threshold",
        "nms_threshold", "orientation", "status", "gate_reason", "replay_of", "attributes", "detections",
    ]  # fmt: skip
    assert EXAMPLE.to_json()["detections"] == [
        {"label": "car", "class_id": 2, "confidence": 0.875, "box": [1.0, 2.0, 3.5, 4.0]}
    ]


def test_a_frame_id_is_the_same_in_every_release():
    assert make_frame_id("cam-1", NOON, 7) == "543d981ae2355f38a3c1f14be89dcd30"
    assert make_frame_id("cam-1", NOON, "a/b.jpg") == "87e38711ae46058b85a4e15e80bbf0c1"
    assert make_frame_id_without_time("a/b.jpg", "etag") == "3a835ab8c03c60cfb02a21415cfc5b3e"


def test_a_frame_id_does_not_depend_on_the_time_zone_of_the_announcement():
    assert make_frame_id("cam", NOON, 7) == make_frame_id("cam", NOON.astimezone(timezone(timedelta(hours=5))), 7)


@given(st.lists(st.tuples(st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_different_parts_give_different_frame_ids(pairs):
    (source, path), (other_source, other_path) = pairs
    assert make_frame_id(source, NOON, path) != make_frame_id(other_source, NOON, other_path)


def test_an_object_that_is_not_an_outcome_is_rejected():
    with pytest.raises(KeyError):
        outcome_from_json({"something": {}})
    with pytest.raises(ValueError, match="LUNCH"):
        outcome_from_json({"dead_letter": {"code": "LUNCH"}})
    assert outcome_from_json({"gap": {"from": 3, "to": 5, "reason": "expired"}}) == Gap(3, 5, GapReason.EXPIRED)
