"""Files tell by their first bytes what they are, and images when they were taken; garbage is not a time."""

import struct
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.image_files import HEAD_BYTES, describe_other, find_pictures, is_video, read_taken_time


def tiff_block(order: str, **texts: str) -> bytes:
    """Returns a TIFF structure whose EXIF directory has the given tags, in the layout of EXIF 2.32."""
    numbers = {"taken": 36867, "offset": 36881, "subseconds": 37521}
    entries = sorted((numbers[name], text.encode() + b"\0") for name, text in texts.items())
    start, inner = 8, 8 + 2 + 12 + 4
    values_at = inner + 2 + 12 * len(entries) + 4
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    head += struct.pack(order + "HHHIII", 1, 34665, 4, 1, inner, 0)
    directory, values = struct.pack(order + "H", len(entries)), b""
    for tag, text in entries:
        place = text.ljust(4, b"\0") if len(text) <= 4 else struct.pack(order + "I", values_at + len(values))
        directory += struct.pack(order + "HHI", tag, 2, len(text)) + place
        values += text if len(text) > 4 else b""
    return head + directory + struct.pack(order + "I", 0) + values


def jpeg(block: bytes) -> bytes:
    plain = encoded(".jpg")
    segment = b"Exif\0\0" + block
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]


def png(block: bytes) -> bytes:
    plain = encoded(".png")
    return plain[:33] + struct.pack(">I", len(block)) + b"eXIf" + block + b"\0\0\0\0" + plain[33:]


def webp(block: bytes) -> bytes:
    return encoded(".webp") + b"EXIF" + struct.pack("<I", len(block)) + block


def encoded(ending: str) -> bytes:
    return cv2.imencode(ending, np.zeros((8, 8, 3), np.uint8))[1].tobytes()


TIME = datetime(2026, 1, 9, 12, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("wrap", [jpeg, png, webp, bytes])
def test_the_time_is_found_in_every_format_and_byte_order(wrap, order):
    assert read_taken_time(wrap(tiff_block(order, taken="2026:01:09 12:30:15"))) == TIME


@pytest.mark.parametrize(
    ("taken", "zone", "utc"),
    [
        ("2026:01:09 12:30:15", "Asia/Kolkata", "2026-01-09T07:00:15+00:00"),
        ("2026:01:09 12:30:15", "Asia/Kathmandu", "2026-01-09T06:45:15+00:00"),
        ("2026:01:09 01:00:00", "Asia/Kolkata", "2026-01-08T19:30:00+00:00"),
        ("2026:10:25 02:30:00", "Europe/Berlin", "2026-10-25T00:30:00+00:00"),
        ("2026:03:29 02:30:00", "Europe/Berlin", "2026-03-29T01:30:00+00:00"),
    ],
    ids=["half hour", "quarter hour", "the day before", "twice: the first", "skipped: shifted forward"],
)
def test_a_time_without_an_offset_is_local_time_of_the_zone(taken, zone, utc):
    found = read_taken_time(jpeg(tiff_block("<", taken=taken)), ZoneInfo(zone))
    assert found == datetime.fromisoformat(utc)


def test_an_offset_wins_over_the_zone():
    block = tiff_block("<", taken="2026:01:09 14:30:15", offset="+02:00")
    assert read_taken_time(jpeg(block), ZoneInfo("Asia/Kolkata")) == TIME


@pytest.mark.parametrize(("text", "microsecond"), [("25", 250_000), ("123456789", 123_456), ("x", 0), ("", 0)])
def test_sub_seconds_are_a_decimal_fraction(text, microsecond):
    block = tiff_block(">", taken="2026:01:09 12:30:15", subseconds=text)
    assert read_taken_time(jpeg(block)) == TIME.replace(microsecond=microsecond)


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "    :  :     :  :  ", "2026-01-09", ""])
def test_a_camera_whose_clock_was_never_set_gives_no_time(taken):
    assert read_taken_time(jpeg(tiff_block("<", taken=taken))) is None


def test_a_picture_without_exif_gives_no_time():
    assert read_taken_time(encoded(".jpg")) is None


@given(st.binary(max_size=300), st.sampled_from([b"", b"Exif\0\0II*\0", b"eXIfMM\0*", b"II*\0\x08\0\0\0"]))
def test_any_bytes_give_a_time_or_none(data, begin):
    found = read_taken_time(begin + data)
    assert found is None or found.tzinfo is not None


@given(st.integers(0, 200))
def test_a_truncated_block_gives_no_time_or_the_right_one(length):
    block = tiff_block("<", taken="2026:01:09 12:30:15")[:length]
    assert read_taken_time(b"Exif\0\0" + block) in (None, TIME)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff"])
def test_images_of_every_known_format_are_images(ending):
    data = cv2.imencode(ending, np.zeros((6, 10, 3), np.uint8))[1].tobytes()
    assert describe_other(data[:HEAD_BYTES]) is None


@pytest.mark.parametrize(
    "fourcc", [("mp4v", ".mp4"), ("MJPG", ".avi"), ("mp4v", ".mov"), ("MJPG", ".mkv")], ids="/".join
)
def test_videos_written_by_ffmpeg_are_videos(fourcc, tmp_path):
    path = tmp_path / f"clip{fourcc[1]}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc[0]), 10.0, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    assert is_video(path)
    with pytest.raises(ConfigurationError, match=rf"it is a video.*imgpipeline ingest video {path}"):
        find_pictures(path)


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
def test_other_files_are_described(head, what):
    assert (describe_other(head) or "").startswith(what)
