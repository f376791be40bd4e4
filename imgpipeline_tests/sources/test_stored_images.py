"""Stored frames are announced again, in another topic."""

from pathlib import Path

import pytest

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.sources.folder import open_folder
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.sequence import SequenceSource
from imgpipeline.sources.stored_images import find_stored_frames
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.detect.conftest import START, LaneUnderTest
from imgpipeline_tests.sources.published import frames_in, read_published
from imgpipeline_tests.sources.test_folder import write_picture

pytestmark = pytest.mark.servers


@pytest.fixture
def filled(lane: LaneUnderTest, tmp_path: Path) -> LaneUnderTest:
    """A folder and a sequence of one day in the ledger, and a frame that its content identifies."""
    for number in range(3):
        write_picture(tmp_path / "yard" / f"{number}.jpg", shade=number, time=START)
        write_picture(tmp_path / "seq" / f"{number}.jpg", shade=90 + number)
    for _ in range(2):
        ingest_source(lane.settings, open_folder(lane.settings, tmp_path / "yard", "yard"))
    ingest_source(lane.settings, SequenceSource(lane.settings, tmp_path / "seq", start=START))
    path = lane.put_image("images/phone/one.jpg")
    lane.send(FrameMessage("phone", path, START, has_own_timestamp=False).to_value(with_time=False))
    lane.follow()
    return lane


def test_frames_keep_their_identity_and_images(filled, make_topic, bucket):
    again = filled.with_settings(kafka_topics=(make_topic(),))
    by_day = {day: find_stored_frames(filled.store, day) for day in sorted({frame.day for frame in filled.frames()})}
    named = [(frames.name, len(frames.frames)) for found, _ in by_day.values() for frames in found]
    assert named == [("seq", 3), ("yard", 3), ("phone", 1)]
    assert {missing for _, missing in by_day.values()} == {0}

    before = {(frame.frame_id, frame.source_image_path) for frame in filled.frames()}
    for found, _ in by_day.values():
        for frames in found:
            ingest_source(again.settings, frames)
    assert len(frames_in(read_published(again.settings))) == 7
    again.follow()
    assert {(frame.frame_id, frame.source_image_path) for frame in again.frames()} == before
    assert len([frame for frame in again.frames() if frame.topic == again.settings.kafka_topic]) == 7


def test_one_source_of_a_day_is_announced_by_the_command(filled, make_topic, bucket, tmp_path):
    env = {
        **bucket.environment(),
        "IMGPIPELINE_STORE_URL": filled.settings.store_url,
        "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": filled.settings.kafka_bootstrap_servers,
    }
    given = ["--topic", make_topic(), "--day", START.date().isoformat(), "--source", "yard", "--json"]
    ended = run("ingest", "replay", *given, env=env, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert (ended.json()["announced"], ended.json()["sources"]) == (3, ["yard"])
    nothing = run("ingest", "replay", "--topic", given[1], "--day", "2001-01-01", env=env, cwd=tmp_path)
    assert nothing.status == 2
    assert "no stored images of 2001-01-01" in nothing.stderr
