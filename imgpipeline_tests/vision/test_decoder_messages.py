"""Decoders print nothing to stderr, and all other output still gets there."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgpipeline.vision.decode import decode_image
from imgpipeline.vision.decoder_messages import decoder_messages_caught
from imgpipeline_tests.cli.command import REPOSITORY
from imgpipeline_tests.vision.decode_cases import FILES, LIMITS, outcome
from imgpipeline_tests.vision.pictures import encode

DAMAGED = {
    "cut and ended": FILES["jpeg"][: len(FILES["jpeg"]) // 2] + b"\xff\xd9",
    "flipped": FILES["jpeg"][:900] + b"\x5a\xa5\x5a\xa5" * 3 + FILES["jpeg"][912:],
    "restart": FILES["jpeg with restarts"].replace(b"\xff\xd3", b"\xff\xd6"),
    "tiff": FILES["tiff"][:2000] + bytes(1000) + FILES["tiff"][3000:],
    "webp": FILES["webp"][:1000] + bytes(500) + FILES["webp"][1500:],
}
PROGRAM = """
import ctypes, os, sys, threading
from imgpipeline_tests.vision.decode_cases import outcome
from imgpipeline_tests.vision.test_decoder_messages import DAMAGED

ROUNDS = 40
libc = ctypes.CDLL(None)
done = threading.Event()

def decode():
    for _ in range(ROUNDS):
        for data in DAMAGED.values():
            outcome(data)

def print_by_stdio():
    for number in range(ROUNDS):
        libc.fputs(b"stdio %d\\n" % number, ctypes.c_void_p.in_dll(libc, "stderr"))
        done.wait(0.005)

def print_by_python():
    for number in range(ROUNDS):
        sys.stderr.write(f"python {number}\\n")
        done.wait(0.005)

threads = [threading.Thread(target=work) for work in (decode, decode, decode, print_by_stdio, print_by_python)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fputs(b"afterwards\\n", ctypes.c_void_p.in_dll(libc, "stderr"))
"""


def stderr_of(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stderr.splitlines()


@pytest.mark.medium
def test_damaged_pictures_in_several_threads_print_nothing_and_the_rest_arrives():
    expected = [f"{how} {number}" for how in ("python", "stdio") for number in range(40)]
    assert sorted(stderr_of(PROGRAM)) == sorted([*expected, "afterwards"])


def test_a_whole_picture_that_is_decoded_twice_prints_nothing(capfd: pytest.CaptureFixture[str]):
    """Where the last pixel is the grey of a gap, bytes are added to find out whether it is one: libjpeg complains."""
    grey = encode(".jpg", np.full((64, 64, 3), 128, np.uint8))
    assert decode_image(grey, LIMITS).width == 64
    assert capfd.readouterr().err == ""


def test_what_a_decoder_says_is_a_debug_message(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, "imgpipeline.vision.decoder_messages"):
        outcome(DAMAGED["cut and ended"])
    assert any("Corrupt JPEG data" in message for message in caplog.messages)


def test_a_crash_report_of_python_still_reaches_stderr():
    program = """
import faulthandler, os
from imgpipeline.vision.decoder_messages import decoder_messages_caught
faulthandler.enable()
with decoder_messages_caught():
    faulthandler.dump_traceback()
    os.write(2, b"written\\n")
    os._exit(0)
"""
    said = stderr_of(program)
    assert "written" in said
    assert any("most recent call first" in line for line in said)


@pytest.mark.medium
def test_a_damaged_video_prints_nothing(tmp_path: Path):
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(500))
    program = f"""
import contextlib, pathlib
from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.video import read_frames
with contextlib.suppress(ConfigurationError):
    list(read_frames(pathlib.Path({str(tmp_path / "clip.mp4")!r})))
"""
    assert stderr_of(program) == []


def test_contexts_may_be_nested():
    with decoder_messages_caught(), decoder_messages_caught():
        assert outcome(DAMAGED["flipped"]) in ("decoded", "refused")
