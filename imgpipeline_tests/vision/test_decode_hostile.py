"""Hostile and damaged files become a picture or a refusal, quickly and in little memory."""

import resource
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.vision.decode import decode_image
from imgpipeline.vision.header import MOST_SCANS
from imgpipeline_tests.vision.decode_cases import (
    FILES,
    LIMITS,
    cuts,
    refused,
)
from imgpipeline_tests.vision.pictures import (
    png_chunk,
    with_orientation,
)


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
