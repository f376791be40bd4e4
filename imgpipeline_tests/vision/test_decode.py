"""A picture is complete and upright, or refused with the right code."""

import resource
import struct
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.header import MOST_SCANS
from imgpipeline_tests.vision.decode_cases import FILES, JPEGS, LAST_BLOCKS_BYTES, LIMITS, PICTURE, cuts, refused
from imgpipeline_tests.vision.pictures import (
    BLUE,
    CMYK_JPEG,
    RED,
    encode,
    hollow_png,
    png_chunk,
    raw_tiff,
    two_halves,
    with_orientation,
)


def test_no_bytes():
    assert refused(b"") is DeadLetterCode.EMPTY_OBJECT


def test_more_bytes_than_allowed():
    data = FILES["png"]
    assert refused(data, ImageLimits(LIMITS.max_pixels, len(data) - 1)) is DeadLetterCode.TOO_LARGE
    assert decode_image(data, ImageLimits(LIMITS.max_pixels, len(data))).width == 301


def test_more_pixels_than_allowed():
    assert refused(FILES["jpeg"], ImageLimits(301 * 207 - 1, 10**6)) is DeadLetterCode.IMAGE_TOO_LARGE
    assert decode_image(FILES["jpeg"], ImageLimits(301 * 207, 10**6)).height == 207


@pytest.mark.medium
@pytest.mark.fault(22)
def test_a_huge_claim_is_refused_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch):
    data = hollow_png(30_000, 30_000)
    assert 50_000 < len(data) < 200_000
    monkeypatch.delattr(cv2, "imdecode")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(data) is DeadLetterCode.IMAGE_TOO_LARGE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


def test_a_claim_larger_than_opencv_itself_allows_is_refused_as_too_large():
    assert refused(FILES["png"][:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1)) is DeadLetterCode.IMAGE_TOO_LARGE


@pytest.mark.parametrize("name", FILES)
def test_every_format_becomes_the_same_bgr(name):
    image = decode_image(FILES[name], LIMITS)
    assert (image.width, image.height, image.orientation) == (301, 207, 1)
    assert image.pixels.shape == (207, 301, 3)
    assert image.pixels.dtype == np.uint8
    expected = np.repeat(PICTURE[..., 1:2], 3, axis=2) if name == "grey jpeg" else PICTURE
    most = 1 if name in ("png", "lossless webp", "bmp", "tiff", "raw tiff") else 16
    assert np.abs(image.pixels.astype(int) - expected).mean() < most


@pytest.mark.parametrize(
    "data",
    [
        encode(".png", np.dstack([two_halves(), np.full((16, 24), 9, np.uint8)])),
        encode(".png", two_halves().astype(np.uint16) * 257),
        encode(".tiff", two_halves().astype(np.uint16) * 257),
        encode(".webp", np.dstack([two_halves(), np.full((16, 24), 255, np.uint8)]), 64, 101),
        CMYK_JPEG,
    ],
    ids=["alpha png", "16-bit png", "16-bit tiff", "alpha webp", "cmyk jpeg"],
)
def test_alpha_16_bits_and_cmyk_become_bgr(data):
    pixels = decode_image(data, LIMITS).pixels
    assert pixels.shape == (16, 24, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[8, 3], BLUE, atol=3)
    np.testing.assert_allclose(pixels[8, 20], RED, atol=3)


@pytest.mark.parametrize("ending", [".png", ".tiff", ".jpg", ".bmp"])
def test_grey_becomes_bgr(ending):
    pixels = decode_image(encode(ending, np.full((9, 7), 77, np.uint8)), LIMITS).pixels
    np.testing.assert_array_equal(pixels, np.full((9, 7, 3), 77))


@pytest.mark.parametrize("ending", [".gif", ".webp", ".png"])
def test_of_an_animation_the_first_frame_is_taken(ending):
    animation = cv2.Animation()
    opaque = np.full((16, 24), 255, np.uint8)
    animation.frames = [np.dstack([two_halves(), opaque]), np.dstack([two_halves()[:, ::-1], opaque])]
    animation.durations = np.array([100, 100])
    written, data = cv2.imencodeanimation(ending, animation)
    assert written
    pixels = decode_image(data.tobytes(), LIMITS).pixels
    np.testing.assert_allclose(pixels[8, 3], BLUE, atol=60)  # GIF has a palette
    np.testing.assert_allclose(pixels[8, 20], RED, atol=60)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff"])
def test_the_orientation_is_applied_once(name, orientation):
    marked = np.zeros((16, 32, 3), np.uint8)
    marked[:8, :8] = 255  # top left, as stored
    if name == "tiff":
        data = raw_tiff(marked, orientation)
    else:
        ending = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}[name]
        data = with_orientation(encode(ending, marked), orientation)
    image = decode_image(data, LIMITS)
    assert image.orientation == orientation
    assert (image.width, image.height) == ((32, 16) if orientation < 5 else (16, 32))
    assert image.pixels.shape == (image.height, image.width, 3)
    # EXIF: where the stored top left corner is to be seen.
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    for at in ((0, 0), (0, -1), (-1, -1), (-1, 0)):
        assert (image.pixels[at].min() > 200) == (at == corner[orientation])


@pytest.mark.fault(21)
@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_refused_wherever_it_was_cut(name):
    data = FILES[name]
    for kept in cuts(len(data), 60):
        assert refused(data[:kept]) is DeadLetterCode.DECODE_FAILED, f"{kept} of {len(data)} bytes"


@pytest.mark.parametrize("name", JPEGS)
def test_a_cut_jpeg_that_was_filled_up_with_zeros_is_refused(name):
    data = FILES[name]
    for kept in cuts(len(data), 40):
        assert refused(data[:kept] + bytes(len(data) - kept)) is DeadLetterCode.DECODE_FAILED, f"{kept} bytes"


@pytest.mark.parametrize("name", ["jpeg", "grey jpeg", "jpeg with restarts"])
def test_a_cut_jpeg_with_a_new_end_marker_is_refused(name):
    """This is what OpenCV decodes to grey without a word."""
    data = FILES[name]
    for kept in cuts(len(data) - LAST_BLOCKS_BYTES, 60, begin=700):
        assert refused(data[:kept] + b"\xff\xd9") is DeadLetterCode.DECODE_FAILED, f"{kept} of {len(data)} bytes"


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    data = FILES["progressive jpeg"]
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 4
    for start in starts:
        assert refused(data[:start] + b"\xff\xd9") is DeadLetterCode.DECODE_FAILED


@pytest.mark.parametrize("lost", [1, 3, 8])
def test_a_jpeg_that_lost_restart_intervals_in_its_middle_is_refused(lost):
    data = FILES["jpeg with restarts"]
    markers = [at for at in range(len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    assert refused(data[: markers[3]] + data[markers[3 + lost] :]) is DeadLetterCode.DECODE_FAILED


def test_bytes_after_the_end_of_a_jpeg_are_ignored():
    whole = decode_image(FILES["jpeg"], LIMITS)
    for tail in (b"\0", b"trailing text", b"\xff\xd9", FILES["jpeg"]):
        np.testing.assert_array_equal(decode_image(FILES["jpeg"] + tail, LIMITS).pixels, whole.pixels)


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 5)])
def test_a_complete_grey_picture_is_not_taken_for_a_truncated_one(options):
    grey = np.full((90, 120, 3), 128, np.uint8)
    cv2.circle(grey, (40, 40), 20, (0, 0, 255), -1)
    for pixels in (grey, np.full((90, 120, 3), 128, np.uint8), np.zeros((90, 120, 3), np.uint8)):
        decoded = decode_image(encode(".jpg", pixels, *options), LIMITS).pixels
        assert np.abs(decoded.astype(int) - pixels).mean() < 2


def test_an_end_marker_inside_a_thumbnail_is_not_the_end():
    thumbnail = b"Exif\0\0" + encode(".jpg", two_halves())
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = FILES["jpeg"][:2] + segment + FILES["jpeg"][2:]
    assert decode_image(data, LIMITS).width == 301
    assert refused(data[: len(segment) + 1000]) is DeadLetterCode.DECODE_FAILED


def test_a_jpeg_with_thousands_of_scans_is_refused_before_it_costs_minutes():
    data = FILES["progressive jpeg"]
    last = data.rfind(b"\xff\xda")
    many = data[:last] + data[last:-2] * (MOST_SCANS + 1) + b"\xff\xd9"
    assert refused(many) is DeadLetterCode.DECODE_FAILED


@pytest.mark.parametrize(
    "data",
    [
        FILES["jpeg"][:2] + b"\xff\xfe\0\x02" * 4_000_000 + FILES["jpeg"][2:],
        FILES["jpeg"][:2] + b"\xff" * 16_000_000,
        FILES["jpeg"][:2] + b"\xff\xd0" * 8_000_000 + FILES["jpeg"][2:],
        FILES["png"][:33] + png_chunk(b"teSt", b"") * 1_300_000 + FILES["png"][33:],
        FILES["webp"] + b"teSt\0\0\0\0" * 2_000_000,
        b"II*\0\x08\0\0\0\xff\xff" + b"\0\1\0\3\0\0\0\1\0\0\0\0" * 65_535,
    ],
    ids=["jpeg comments", "jpeg fill bytes", "jpeg restarts", "png chunks", "webp chunks", "tiff entries"],
)
@pytest.mark.timeout(60)
def test_millions_of_tiny_parts_are_refused(data):
    """In a fraction of a second; the time-out is for a walk that became quadratic, which would take minutes."""
    assert refused(data) is DeadLetterCode.DECODE_FAILED


def test_a_png_chunk_that_claims_gigabytes_takes_no_memory():
    """OpenCV takes the memory first, 2 GB for a file of 100 bytes, and sees then that the file ends."""
    data = FILES["png"]
    claim = data[:33] + struct.pack(">I", 0x7FFF_FFFF) + data[37:]
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(claim) is DeadLetterCode.DECODE_FAILED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


def test_an_animation_frame_that_is_larger_than_its_picture_is_refused():
    frame = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 60_000, 60_000, 0, 0, 1, 10, 0, 0))
    data = FILES["png"][:33] + png_chunk(b"acTL", struct.pack(">II", 1, 0)) + frame + FILES["png"][33:]
    assert refused(data) is DeadLetterCode.DECODE_FAILED


def test_a_png_with_one_flipped_bit_in_its_data_is_refused():
    for at in cuts(len(FILES["png"]) - 20, 30, begin=60):
        flipped = bytearray(FILES["png"])
        flipped[at] ^= 4
        assert refused(bytes(flipped)) is DeadLetterCode.DECODE_FAILED


def test_a_png_with_a_flipped_bit_in_its_orientation_is_refused():
    data = bytearray(with_orientation(FILES["png"], 1))
    assert decode_image(bytes(data), LIMITS).orientation == 1
    data[data.index(b"eXIf") + 4 + 18] ^= 2
    assert refused(bytes(data)) is DeadLetterCode.DECODE_FAILED


def test_many_threads_decode_at_once():
    expected = {name: decode_image(data, LIMITS).pixels for name, data in FILES.items()}
    wrong: list[str] = []

    def work() -> None:
        for name, data in FILES.items():
            if not np.array_equal(decode_image(data, LIMITS).pixels, expected[name]):
                wrong.append(name)
            try:
                decode_image(data[: len(data) // 2], LIMITS)
                wrong.append(f"cut {name}")
            except BadInputError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_decoding_leaves_opencvs_threads_alone():
    code = (
        "import cv2; before = cv2.getNumThreads(); import imgpipeline.vision.decode; "
        "assert cv2.getNumThreads() == before"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
