"""Frames of a video file."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.video import ingest_video, read_frames
from imgpipeline_tests.detect.conftest import START, LaneUnderTest, lane  # noqa: F401 - a fixture


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Two seconds at 10 frames a second; each frame is as bright as ten times its number."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(20):
        writer.write(np.full((48, 64, 3), number * 10, np.uint8))
    writer.release()
    return path


def test_all_frames_come_in_order_with_their_times(video: Path) -> None:
    frames = list(read_frames(video, every_s=0))

    assert [f.number for f in frames] == list(range(20))
    assert [round(f.offset_s, 2) for f in frames] == [n / 10 for n in range(20)]
    assert [round(float(f.pixels.mean()) / 10) for f in frames] == list(range(20))


def test_frames_are_taken_at_the_distance_asked_for(video: Path) -> None:
    assert [f.number for f in read_frames(video, every_s=0.5)] == [0, 5, 10, 15]


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video")

    with pytest.raises(ConfigurationError, match=r"notes\.mp4 cannot be read as a video"):
        list(read_frames(text, every_s=0))
    with pytest.raises(ConfigurationError, match="There is no video"):
        list(read_frames(tmp_path / "absent.mp4", every_s=0))


def test_a_video_ingested_twice_announces_the_same_frames(
    video: Path,
    lane: LaneUnderTest,  # noqa: F811 - the fixture
) -> None:
    for _ in range(2):
        assert ingest_video(lane.settings, video, "clip", every_s=0.5, start=START) == 4

    lane.follow()

    frames = lane.frames()
    assert len(frames) == 8
    assert len({f.frame_id for f in frames}) == 4
    assert {f.source_image_path for f in frames} == {f"images/clip/2026-03-01/clip-{n:08d}.jpg" for n in (0, 5, 10, 15)}
    assert {f.attributes["file"] for f in frames} == {f"clip-{n:08d}.jpg" for n in (0, 5, 10, 15)}
