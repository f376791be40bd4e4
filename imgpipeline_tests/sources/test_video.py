"""Frames of a video file: their times, the choice of frames, and damaged files."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.sources.ingest import ingest_files
from imgpipeline.sources.protocol import CapturedFrame, Lost
from imgpipeline.sources.video import FrameChoice, VideoFrame, VideoSource, read_frames
from imgpipeline_tests.detect.conftest import START
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published
from imgpipeline_tests.sources.videos import write_video

ALL = FrameChoice()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4")


def frames_of(path: Path, choice: FrameChoice = ALL) -> list[VideoFrame]:
    return [frame for frame in read_frames(path, choice) if isinstance(frame, VideoFrame)]


def test_all_frames_are_read_in_order_with_their_times(video):
    frames = frames_of(video)

    assert [f.number for f in frames] == list(range(20))
    assert [f.offset_s for f in frames] == [n / 10 for n in range(20)]
    assert [round(float(f.pixels[24:, 32:].mean()) / 10) for f in frames] == list(range(20))


def test_a_variable_frame_rate_keeps_each_frames_own_time(tmp_path):
    times_ms = [0, 40, 400, 410, 1900]
    path = write_video(tmp_path / "clip.mkv", times_ms=times_ms)

    assert [round(f.offset_s * 1000) for f in frames_of(path)] == times_ms


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        pytest.param(FrameChoice(every=5), [0, 5, 10, 15], id="every"),
        pytest.param(FrameChoice(rate=2), [0, 5, 10, 15], id="rate"),
        pytest.param(FrameChoice(rate=4), [0, 3, 5, 8, 10, 13, 15, 18], id="uneven-rate"),
        pytest.param(FrameChoice(rate=100), list(range(20)), id="rate-above-the-videos"),
    ],
)
def test_the_chosen_frames_are_taken(video, choice, numbers):
    assert [f.number for f in frames_of(video, choice)] == numbers
    assert VideoSource(video, "clip", choice=choice).expected == len(numbers)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_number_of_frames_is_spread_evenly_over_the_video(tmp_path, suffix):
    path = write_video(tmp_path / f"clip{suffix}")
    for count, numbers in (
        (5, [0, 4, 8, 12, 16]),
        (7, [0, 3, 6, 9, 12, 15, 18]),
        (13, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
        (10_000, list(range(20))),
    ):
        assert [f.number for f in frames_of(path, FrameChoice(count=count))] == numbers


@pytest.mark.parametrize(
    ("rotation", "corner"), [(90, "lower left"), (180, "lower right"), (270, "upper right")], ids=["90", "180", "270"]
)
def test_frames_are_upright(tmp_path, rotation, corner):
    """A display matrix that rotates counterclockwise moves the bright upper left corner."""
    pixels = frames_of(write_video(tmp_path / "clip.mp4", rotation=rotation))[0].pixels

    assert pixels.shape == ((48, 64, 3) if rotation == 180 else (64, 48, 3))
    rows = {"upper": slice(0, 8), "lower": slice(-8, None)}[corner.split(maxsplit=1)[0]]
    columns = {"left": slice(0, 8), "right": slice(-8, None)}[corner.split()[1]]
    assert pixels[rows, columns].mean() > 200
    assert pixels.mean() < 60


@pytest.mark.slow
@pytest.mark.data
def test_the_times_of_real_videos_equal_those_of_opencv(shared_data):
    """Earlier releases read videos with OpenCV; with the same times, frames keep their identity."""
    for path in sorted((shared_data / "video").iterdir()):
        capture, frames = cv2.VideoCapture(str(path)), frames_of(path)
        for frame in frames:
            assert capture.grab()
            assert frame.offset_s == pytest.approx(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, abs=0.0005)
        assert not capture.grab()
        assert frames


def test_a_file_that_is_not_a_video_is_refused(tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("no video")

    with pytest.raises(ConfigurationError, match=r"notes\.mp4 cannot be read as a video"):
        VideoSource(text, "clip")
    with pytest.raises(ConfigurationError, match="There is no video"):
        VideoSource(tmp_path / "absent.mp4", "clip")


def truncated_video(path: Path) -> Path:
    """Write three fifths of a video of 100 frames, with its index at the front."""
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    write_video(path, times_ms=range(0, 10_000, 100), size=(320, 240), options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_readable_part_of_a_truncated_file_is_kept_and_the_rest_is_reported(tmp_path, suffix):
    read = list(read_frames(truncated_video(tmp_path / f"clip{suffix}")))
    whole = [frame for frame in read if isinstance(frame, VideoFrame)]
    lost = [part for part in read if isinstance(part, Lost)]
    assert 10 < len(whole) < 90
    assert lost[-1].reason == "truncated"
    assert len(whole) + sum(part.count for part in lost) == 100


def test_the_missing_frames_of_a_truncated_video_are_in_the_accounts(tmp_path, settings):
    path = truncated_video(tmp_path / "clip.mp4")
    result = ingest_files(settings, VideoSource(path, "clip", start=START), store=open_memory_store())

    published = read_published(settings)
    [account] = [notice.account for notice in accounts_in(published)]
    assert account is not None
    assert (account.received, account.announced, account.failed) == (100, result.announced, result.failed)
    assert result.failed > 0
    assert any("early" in skipped.reason for skipped in result.skipped)
    notices = [record for record in published if isinstance(record, Notice)]
    assert [n.kind for n in notices if n.reason and "frames early" in n.reason] == [NoticeKind.OFFLINE]


def test_the_start_is_the_given_one_or_that_of_the_container_or_file(tmp_path):
    made = write_video(tmp_path / "made.mp4", created="2026-01-05T06:07:08Z")
    plain = write_video(tmp_path / "plain.mp4")
    os.utime(plain, (START.timestamp(), START.timestamp()))

    assert VideoSource(made, "clip", start=START).start == START
    assert VideoSource(made, "clip").start == datetime(2026, 1, 5, 6, 7, 8, tzinfo=UTC)
    assert VideoSource(plain, "clip").start == START


def test_a_video_ingested_twice_counts_once(video, lane):
    for _ in range(2):
        chosen = VideoSource(video, "clip", start=START, choice=FrameChoice(rate=2))
        assert ingest_files(lane.settings, chosen).announced == 4

    lane.follow()

    frames = lane.frames()
    assert len(frames) == 8
    assert len({f.frame_id for f in frames}) == 4
    assert {f.frame_number for f in frames} == {0, 5, 10, 15}
    assert {f.timestamp for f in frames} == {START + timedelta(seconds=n / 10) for n in (0, 5, 10, 15)}
    assert {f.clock_source for f in frames} == {ClockSource.CONTAINER}


def test_another_video_of_the_same_name_never_gets_the_images_of_the_first(tmp_path, settings):
    store = open_memory_store()
    for folder, times in (("a", range(0, 1000, 100)), ("b", range(0, 2000, 200))):
        (tmp_path / folder).mkdir()
        path = write_video(tmp_path / folder / "clip.mp4", times_ms=times, size=(64, 48) if folder == "a" else (96, 48))
        ingest_files(settings, VideoSource(path, "clip", start=START), store=store)

    frames = frames_in(read_published(settings))
    assert [frame.width for frame in frames] == [64] * 10 + [96] * 10
    for frame in frames:
        pixels = cv2.imdecode(np.frombuffer(store.get(str(frame.image_path)), np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape == (frame.height, frame.width, 3)


@pytest.mark.medium
def test_in_real_time_a_frame_is_yielded_when_it_is_due(video):
    source = VideoSource(video, "clip", choice=FrameChoice(rate=2), realtime=True)
    began = datetime.now(UTC)
    for captured in source.capture(Event()):
        assert isinstance(captured, CapturedFrame)
        assert datetime.now(UTC) - began >= captured.timestamp - source.start - timedelta(seconds=0.05)


def test_a_stopped_video_ends_before_its_last_frame(video):
    stop, source = Event(), VideoSource(video, "clip")
    frames = source.capture(stop)
    next(frames)
    stop.set()
    assert list(frames) == []
