"""Messages of other systems, sent by a plain kafka-python producer to a real broker, become frames of a lane."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from imgpipeline import Lake
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.errors import DeadLetterCode
from imgpipeline.settings import load_settings
from imgpipeline.sources.folder import open_folder
from imgpipeline.sources.ingest import ingest_files
from imgpipeline.sources.options import PublishOptions
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg


@pytest.fixture
def producer(lane: LaneUnderTest) -> Iterator[KafkaProducer]:
    opened = KafkaProducer(bootstrap_servers=lane.settings.kafka_bootstrap_servers)
    yield opened
    opened.close()


def of(lane: LaneUnderTest, **variables: str) -> LaneUnderTest:
    """Return the lane with further settings, read as from the environment."""
    return LaneUnderTest(load_settings(**{**lane.settings.model_dump(exclude_unset=True), **variables}))


def frame_of(lane: LaneUnderTest, producer: KafkaProducer, value: Mapping[str, Any], key: bytes | None = None) -> Frame:
    producer.send(lane.settings.kafka_topic, json.dumps(value).encode(), key=key).get(timeout=30)
    lane.follow()
    [frame] = lane.frames()
    return frame


def test_the_classic_message_becomes_a_frame_of_its_own_time(lane: LaneUnderTest, producer: KafkaProducer):
    site = of(
        lane, timestamp_fields="timestamp,upload_timestamp,backfill_timestamp", message_timezone="America/New_York"
    )
    key = site.put_image("images/frame_000000.jpg")
    url = f"{site.settings.store_url}/{key}"
    frame = frame_of(site, producer, {"image_path": url, "upload_timestamp": "2025-04-10T14:30:00.123456"})
    assert frame.timestamp == datetime(2025, 4, 10, 18, 30, 0, 123_456, UTC)
    assert (frame.source, frame.source_image_path, dict(frame.attributes)) == ("images", url, {})


def test_a_folder_is_announced_in_the_classic_form_and_read_back(lane: LaneUnderTest, tmp_path: Path):
    site = of(lane, timestamp_fields="timestamp,upload_timestamp", image_key_template="images/{name}")
    (tmp_path / "frame_000000.jpg").write_bytes(jpeg())
    ingest_files(
        site.settings,
        open_folder(site.settings, tmp_path, "gate"),
        options=PublishOptions(message_format=MessageFormat.CLASSIC),
    )

    where = TopicPartition(site.settings.kafka_topic, 0)
    consumer = KafkaConsumer(bootstrap_servers=site.settings.kafka_bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign([where])
    [record] = consumer.poll(timeout_ms=10_000)[where]
    consumer.close()
    announced = json.loads(record.value)
    assert announced.keys() == {"image_path", "upload_timestamp"}
    assert announced["image_path"] == f"{site.settings.store_url}/images/frame_000000.jpg"
    assert datetime.fromisoformat(announced["upload_timestamp"]).tzinfo is None

    site.follow()
    [frame] = site.frames()
    assert (frame.source, frame.timestamp.replace(tzinfo=None).isoformat(timespec="microseconds")) == (
        "gate",
        announced["upload_timestamp"],
    )


@pytest.mark.parametrize("bucket_field", ["bucket", "bucket_name"])
def test_the_bucket_producers_message_is_of_its_folder_and_not_of_its_picture(
    lane: LaneUnderTest, producer: KafkaProducer, bucket_field: str
):
    image_key = "lane/captchas/a1b2.png"
    lane.put_image("captchas/a1b2.png")
    value = {
        bucket_field: lane.settings.store_url.removeprefix("s3://").partition("/")[0],
        "image_key": image_key,
        "timestamp": "2026-01-09 12:00:00.250000",
        "uuid": "6f1c",
    }
    frame = frame_of(lane, producer, value, key=image_key.encode())
    assert (frame.source, frame.timestamp) == ("captchas", datetime(2026, 1, 9, 12, 0, 0, 250_000, UTC))
    assert frame.attributes == {"uuid": "6f1c"}


def test_a_template_names_the_source(lane: LaneUnderTest, producer: KafkaProducer):
    site = of(lane, source_template="{bucket}")
    path = f"{site.settings.store_url}/{site.put_image('a/b.jpg')}"
    frame = frame_of(site, producer, {"image_path": path}, key=b"a/b.jpg")
    assert frame.source == path.removeprefix("s3://").partition("/")[0]


def test_a_number_alone_names_the_image(lane: LaneUnderTest, producer: KafkaProducer):
    site = of(lane, image_path_template="image_database/{image_num:05d}.jpg")
    site.put_image("image_database/00007.jpg")
    frame = frame_of(site, producer, {"image_num": 7})
    assert (frame.source_image_path, frame.source, frame.frame_number) == (
        "image_database/00007.jpg",
        "image_database",
        7,
    )


def test_a_frame_store_beside_the_store_is_read_by_video_and_frame(
    lane: LaneUnderTest, producer: KafkaProducer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shared = tmp_path / "frame_store"
    shared.mkdir()
    (shared / "uav0000086_frame_00001.jpg").write_bytes(jpeg())
    monkeypatch.setenv("IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS", shared.as_uri())
    monkeypatch.setenv("IMGPIPELINE_IMAGE_PATH_TEMPLATE", f"{shared}/{{video_id}}_{{frame_id}}.jpg")
    site = of(lane)
    by_number = {"frame_id": "frame_00001", "timestamp": "2026-03-01T12:00:00+00:00", "video_id": "uav0000086"}
    by_path = {"image_path": f"{shared}/uav0000086_frame_00001.jpg", "video_id": "uav0000086"}
    for value in (by_number, by_path, {"image_path": str(tmp_path / "elsewhere.jpg")}):
        producer.send(site.settings.kafka_topic, json.dumps(value).encode()).get(timeout=30)
    site.follow()
    path = f"{shared}/uav0000086_frame_00001.jpg"
    assert [(frame.source, frame.source_image_path) for frame in site.frames()] == [("uav0000086", path)] * 2
    assert [letter.code for letter in site.dead_letters()] == [DeadLetterCode.PATH_NOT_ALLOWED]
    lake = Lake.open(site.settings)
    assert lake.image(site.frames()[0].day, site.frames()[0].frame_id).shape == (360, 640, 3)
