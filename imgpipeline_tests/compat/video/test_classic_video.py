"""Programs of a classic video pipeline work together with this one, in the place of any of its parts."""

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imgpipeline.contracts.detection import Kind
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.publish.detections import publish_detections
from imgpipeline.publish.live_tracks import publish_live_tracks
from imgpipeline.publish.slices import publish_tracks
from imgpipeline.publish.transactions import Form, Publication, Run
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline_tests.compat.video.programs import (
    DataGenerator,
    FrameStore,
    detector_reads,
    statistics_reads,
    tracker_reads,
)
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.detect.conftest import LaneUnderTest
from imgpipeline_tests.detect.conftest import lane as lane  # noqa: PLC0414 - a fixture
from imgpipeline_tests.web.ingest.serving import serving

pytestmark = pytest.mark.medium

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
FRAMES = 25
SCENE = Scene(8, frames=60)
"""It has two cars."""
LATER = START.replace(year=2027)


@pytest.fixture
def site(lane: LaneUnderTest, make_topic: Callable[..., str]) -> LaneUnderTest:
    """A lane over the topics of cars and of people; the store is the shared folder of frames."""
    return lane.with_settings(
        kafka_topics=(make_topic(), make_topic()), image_path_template="{video_id}_{frame_id}.jpg"
    )


class StoreFolder:
    """The part of a store below a folder, or all of it, as the classic programs see it."""

    def __init__(self, site: LaneUnderTest, folder: str = "") -> None:
        self._store, self._folder = site.store, folder

    def put(self, key: str, data: bytes) -> None:
        self._store.put(f"{self._folder}{key}", data)

    def get(self, key: str) -> bytes:
        return self._store.get(f"{self._folder}{key}")


def generate(site: LaneUnderTest, frames: FrameStore) -> list[tuple[str, str]]:
    """Let the classic generator play two videos; return (video_id, frame_id) in the order of sending."""
    generator = DataGenerator(site.settings.kafka_bootstrap_servers, frames, site.settings.kafka_topics)
    for video_id, first in (("uav0000086", START), ("uav0000117", START.replace(hour=13))):
        generator.start(video_id, (SCENE.jpeg(number)[0] for number in range(FRAMES)), first)
    return [(message["video_id"], message["frame_id"]) for message in generator.sent]


@pytest.mark.slow
def test_a_tracker_gets_each_frame_of_two_topics_once_by_the_names_of_the_generator(site, make_topic):
    sent = generate(site, StoreFolder(site))
    report = site.follow()
    assert (report.frames, report.dead_letters) == (2 * len(sent), 0)
    assert {frame.frame_number for frame in site.frames()} == set(range(FRAMES))

    cars, tracks = make_topic(), make_topic()
    run = Run(site.store, site.settings)
    publish_detections(run, Publication(cars, Form.CLASSIC, Kind.CARS))
    publish_live_tracks(run, Publication(tracks, Form.CLASSIC, Kind.CARS))
    detected = tracker_reads(site.settings.kafka_bootstrap_servers, cars)
    assert sorted(detected) == sorted(sent)
    assert any(detected.values())
    shown = statistics_reads(site.settings.kafka_bootstrap_servers, tracks)
    assert sorted((video, frame) for video, frame, _ in shown) == sorted(sent)
    assert any(numbers for _, _, numbers in shown)


@pytest.mark.slow
def test_built_tracks_and_files_have_the_names_of_the_generator(site, make_topic, tmp_path):
    sent = generate(site, StoreFolder(site))
    site.follow()
    rebuild_day(site.store, START.date(), now=START)
    build_tracks(site.store, START.date(), settings=site.settings, now=START)
    topic = make_topic()
    publish_tracks(Run(site.store, site.settings, clock=lambda: LATER), Publication(topic, Form.CLASSIC, Kind.CARS))
    shown = statistics_reads(site.settings.kafka_bootstrap_servers, topic)
    assert sorted((video, frame) for video, frame, _ in shown) == sorted(sent)

    file = tmp_path / "car_detections.csv"
    publish_detections(Run(site.store, site.settings), Publication("", Form.CLASSIC, Kind.CARS, file))
    appended = [(row["video_id"], row["frame_id"]) for row in csv.DictReader(file.read_text().splitlines())]
    assert appended
    assert set(appended) <= set(sent)


def test_detectors_of_both_topics_get_the_frames_that_our_generator_plays(site, tmp_path: Path):
    folder = tmp_path / "data" / "sequences" / "uav0000086"
    folder.mkdir(parents=True)
    images = [SCENE.jpeg(number)[0] for number in range(5)]
    for number, image in enumerate(images):
        (folder / f"{number + 1:07d}.jpg").write_bytes(image)
    generator = site.with_settings(
        dataset_root=tmp_path / "data",
        jobs_dir=tmp_path / "jobs",
        api_keys_file=tmp_path / "keys.json",
        start_waits=True,
        image_key_template="frame_store/{source}_frame_{number:05d}.jpg",
        image_path_template="frame_store/{video_id}_{frame_id}.jpg",
    )
    with serving(generator.settings, options=PublishOptions(message_format=MessageFormat.CLASSIC_VIDEO)) as client:
        answer = client.post("/start/uav0000086")
    assert (answer.status_code, answer.json()) == (200, {"status": "Sent 5 frames from uav0000086."})
    for topic in site.settings.kafka_topics:
        found = detector_reads(site.settings.kafka_bootstrap_servers, topic, StoreFolder(site, "frame_store/"))
        found.sort(key=lambda each: each[0]["frame_id"])
        assert [message["frame_id"] for message, _ in found] == [f"frame_{number:05d}" for number in range(5)]
        assert {message["video_id"] for message, _ in found} == {"uav0000086"}
        assert [image for _, image in found] == images

    report = generator.follow()
    assert (report.frames, report.dead_letters) == (10, 0)
    assert len({frame.frame_id for frame in generator.frames()}) == 5
