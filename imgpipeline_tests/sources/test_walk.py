"""The first bytes of a file tell what it is."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from imgpipeline.sources.walk import HEAD_BYTES, describe_other

CLIP = Path("clip")


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff"])
def test_images_of_every_known_format_are_images(ending: str):
    data = cv2.imencode(ending, np.zeros((6, 10, 3), np.uint8))[1].tobytes()
    assert describe_other(data[:HEAD_BYTES], CLIP) is None


@pytest.mark.parametrize(
    "fourcc", [("mp4v", ".mp4"), ("MJPG", ".avi"), ("mp4v", ".mov"), ("MJPG", ".mkv")], ids="/".join
)
def test_videos_written_by_ffmpeg_are_videos(fourcc: tuple[str, str], tmp_path: Path):
    path = tmp_path / f"clip{fourcc[1]}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc[0]), 10.0, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    other = describe_other(path.read_bytes()[:HEAD_BYTES], path)
    assert other is not None
    assert other.what.startswith("it is a video")
    assert f"imgpipeline ingest video {path}" in other.next_step


@pytest.mark.parametrize(
    ("head", "what"),
    [
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(b"\0\0\0\x1cftypheic", "it is a HEIF or AVIF picture", id="heic"),
        pytest.param(b"\0\0\0\x1cftypavif", "it is a HEIF or AVIF picture", id="avif"),
        pytest.param((b"G" + bytes(187)) * 2, "it is a video (MPEG transport stream)", id="ts"),
        pytest.param(b"\x1aE\xdf\xa3", "it is a video (Matroska or WebM)", id="webm"),
        pytest.param(b"%PDF-1.7", "it is a PDF document", id="pdf"),
        pytest.param(b"RIFF\0\0\0\0WAVE", "it starts with 52 49 46 46", id="wave"),
    ],
)
def test_other_files_are_described(head: bytes, what: str):
    other = describe_other(head, CLIP)
    assert other is not None
    assert other.what.startswith(what)
