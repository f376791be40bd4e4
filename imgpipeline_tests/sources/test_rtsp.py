"""Cameras on a real RTSP server: times, rates, sizes, and everything that goes wrong with cameras."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Self

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.protocol import Captured, CapturedFrame, Lost, Settled, StatusChange
from imgpipeline.sources.rate import RatePicker
from imgpipeline.sources.rtsp import RtspSource, RtspTiming, pause_s, read_credentials
from imgpipeline.sources.simulator.rtsp_simulator import SimulatedCamera, write_clip
from imgpipeline_tests.servers.processes import is_gone
from imgpipeline_tests.servers.rtsp_server import RtspServer, make_camera, numbered_pictures
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.numbered import read_number

pytestmark = pytest.mark.servers
LIMIT_S = 90
RIGHT, CANARY = "right", "pw-canary"
WATCHES = """
import sys, threading
from imgpipeline.sources.rtsp import RtspSource
camera = RtspSource("gate", sys.argv[1])
for item in camera.capture(threading.Event()):
    print(camera.now.pid, flush=True)
"""
PATIENT = RtspTiming(open_timeout_s=30, read_timeout_s=20, first_pause_s=0.2, longest_pause_s=0.5)
IMPATIENT = {"timing": replace(PATIENT, read_timeout_s=2), "stall_s": 4.0}
"""For tests in which the camera falls silent."""


@pytest.fixture
def serve() -> Iterator[Callable[..., RtspServer]]:
    """Starts servers, and stops them at the end."""
    servers: list[RtspServer] = []

    def start(*cameras: SimulatedCamera) -> RtspServer:
        server = RtspServer(cameras)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


class Watched:
    """Captures a camera in a thread, and collects the yielded items."""

    def __init__(self, url: str, name: str = "gate", **options) -> None:
        self.camera = RtspSource(name, url, **{"timing": PATIENT, "stall_s": 30.0, **options})
        self.items: list[Captured] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._capture)

    def _capture(self) -> None:
        for item in self.camera.capture(self._stop):
            self.items.append(item)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()

    @property
    def frames(self) -> list[CapturedFrame]:
        return [item for item in self.items if isinstance(item, CapturedFrame)]

    @property
    def lost(self) -> list[Lost]:
        return [item for item in self.items if isinstance(item, Lost)]

    @property
    def changes(self) -> list[StatusChange]:
        return [item for item in self.items if isinstance(item, StatusChange)]

    def await_frames(self, count: int) -> list[CapturedFrame]:
        wait_until(lambda: len(self.frames) >= count, limit_s=LIMIT_S, what=f"{count} frames")
        return self.frames

    def await_change(self, text: str, *, online: bool) -> StatusChange:
        def found() -> list[StatusChange]:
            return [change for change in self.changes if change.online is online and text in change.reason]

        wait_until(lambda: bool(found()), limit_s=LIMIT_S, what=f"{text!r} (now: {self.changes[-3:]})")
        return found()[-1]


def pixels(frame: CapturedFrame) -> np.ndarray:
    assert frame.data is not None
    return cv2.imdecode(np.frombuffer(frame.data, np.uint8), cv2.IMREAD_COLOR)


def number_of(frame: CapturedFrame) -> int | None:
    return read_number(pixels(frame))


def command_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_each_frame_of_a_stream_is_yielded_once_with_the_time_of_the_cameras_clock(serve, tmp_path, codec):
    server = serve(make_camera(tmp_path, "cam1", codec=codec))
    with Watched(server.url("cam1")) as watched:
        wait_until(lambda: sum(f.clock is ClockSource.RTCP for f in watched.frames) >= 10, limit_s=LIMIT_S, what="RTCP")
    by_rtcp = [frame for frame in watched.frames if frame.clock is ClockSource.RTCP]
    numbers = [number_of(frame) for frame in watched.frames]
    assert None not in numbers
    first = numbers[0] or 0
    assert numbers == [(first + n) % 60 for n in range(len(numbers))]
    for frame in by_rtcp:
        taken_s = frame.timestamp.timestamp() * 10  # the simulator shows frame n at n / 10 s
        assert (taken_s - (number_of(frame) or 0)) % 60 < 5
    assert [frame.number for frame in watched.frames] == list(range(len(numbers)))
    if codec == "mjpeg":
        data = watched.frames[2].data or b""
        scan = data[data.rindex(b"\xff\xda") + 14 : -2]
        assert len(scan) > 500
        assert scan in (tmp_path / "cam1.clip").read_bytes(), "packets are passed on unchanged"


def test_frames_that_arrive_in_a_burst_after_a_stall_are_not_lost(serve, tmp_path):
    server = serve(make_camera(tmp_path, "cam1", codec="mjpeg"))
    with Watched(server.url("cam1")) as watched:
        before, reader = len(watched.await_frames(3)), watched.camera.now.pid
        os.kill(reader, signal.SIGSTOP)
        end = monotonic() + 3  # 30 frames, twice as many as the queue holds
        wait_until(lambda: monotonic() > end, limit_s=LIMIT_S, what="the end of the stall")
        os.kill(reader, signal.SIGCONT)
        watched.await_frames(before + 30)
    numbers = [number_of(frame) or 0 for frame in watched.frames]
    assert numbers == [(numbers[0] + n) % 60 for n in range(len(numbers))]
    assert not watched.lost


@pytest.mark.slow
def test_frames_above_the_rate_are_gated_and_the_rest_is_evenly_spaced(serve, tmp_path):
    server = serve(make_camera(tmp_path, "cam1", codec="mjpeg", fps=20.0))
    with Watched(server.url("cam1"), fps=5) as watched:
        watched.await_frames(25)
    assert {(lost.reason, lost.kind) for lost in watched.lost} == {("frame_rate", Settled.GATED)}
    left_out, kept = sum(lost.count for lost in watched.lost), len(watched.frames)
    assert 2.5 < left_out / kept < 3.5


@pytest.mark.slow
def test_a_stream_continues_after_a_change_of_resolution(serve, tmp_path):
    sizes = [(320, 176), (640, 368)]
    pictures = [p for width, height in sizes for p in numbered_pictures(20, width, height)]
    write_clip(pictures, tmp_path / "zoom.clip", codec="h264", fps=10)
    server = serve(SimulatedCamera("zoom", str(tmp_path / "zoom.clip"), "h264", 10.0))
    with Watched(server.url("zoom")) as watched:
        watched.await_frames(60)
    shapes = {pixels(frame).shape[1::-1] for frame in watched.frames}
    assert shapes == set(sizes)
    assert not [change for change in watched.changes if not change.online]


@pytest.mark.parametrize(
    ("path", "credentials", "cause"),
    [
        ("nothing", None, "404 not found"),
        ("secret", "alice:wrong-canary", "401 unauthorized"),
    ],
    ids=["path", "password"],
)
def test_a_camera_that_cannot_be_opened_is_offline_with_the_cause_and_retried(
    serve, tmp_path, path, credentials, cause
):
    server = serve(make_camera(tmp_path, "secret", user="alice", password=RIGHT))
    with Watched(server.url(path), credentials=credentials) as watched:
        watched.await_change(cause, online=False)
        wait_until(lambda: watched.camera.now.attempts > 3, limit_s=LIMIT_S, what="attempts")
    assert len([change for change in watched.changes if cause in change.reason]) == 1, "an outage is told once"
    assert "canary" not in repr(watched.items)


def test_a_closed_port_is_reported_as_a_refused_connection():
    with Watched("rtsp://127.0.0.1:9/cam1") as watched:
        watched.await_change("connection refused", online=False)


@pytest.mark.slow
@pytest.mark.fault(53)
def test_fault_53_a_killed_frozen_or_restarted_server_is_an_outage_and_others_continue(serve, tmp_path):
    mortal, other = serve(make_camera(tmp_path, "cam1")), serve(make_camera(tmp_path, "cam2"))
    with Watched(mortal.url("cam1"), **IMPATIENT) as watched, Watched(other.url("cam2"), name="other") as neighbour:
        watched.await_frames(5)
        neighbour.await_frames(5)
        mortal.kill()
        watched.await_change("", online=False)
        mortal.start()
        watched.await_frames(len(watched.frames) + 5)
        back = lambda: [change.online for change in watched.changes[-2:]] == [False, True]  # noqa: E731 - used once
        wait_until(back, limit_s=LIMIT_S, what="the camera is back, also after a stall of this machine")
        with mortal.frozen():
            changes = len(watched.changes)
            wait_until(lambda: len(watched.changes) > changes, limit_s=LIMIT_S, what="the outage is told")
            assert not watched.changes[-1].online
        watched.await_frames(len(watched.frames) + 5)
    numbers = [number_of(frame) for frame in neighbour.frames]
    first = numbers[0] or 0
    assert numbers == [(first + n) % 60 for n in range(len(numbers))]
    assert [change.online for change in neighbour.changes] == [True]


@pytest.mark.slow
@pytest.mark.fault(53)
@pytest.mark.parametrize(
    ("action", "said"), [("segfault", "SIGSEGV"), ("stop", "no frame for 4 s")], ids=["crashes", "hangs"]
)
def test_fault_53_a_decoder_that_crashes_or_hangs_restarts(serve, tmp_path, monkeypatch, action, said):
    server = serve(make_camera(tmp_path, "cam1"))
    (tmp_path / "once").mkdir()
    monkeypatch.setenv("IMGPIPELINE_FAULT_AT", f"rtsp frame:5~gate={action}")
    monkeypatch.setenv("IMGPIPELINE_FAULT_ONCE", str(tmp_path / "once"))
    with Watched(server.url("cam1"), **IMPATIENT) as watched:
        wait_until(lambda: watched.camera.now.pid is not None, limit_s=LIMIT_S, what="a process")
        first = watched.camera.now.pid
        watched.await_change(said, online=False)
        watched.await_frames(len(watched.frames) + 5)
        assert watched.camera.now.pid != first
    assert first is not None
    assert is_gone(first)


@pytest.mark.slow
@pytest.mark.fault(53)
def test_fault_53_a_camera_that_sends_garbage_is_an_outage_with_its_failed_frames_counted(serve, tmp_path):
    write_h264_garbage(tmp_path / "noise.clip")
    server = serve(SimulatedCamera("noise", str(tmp_path / "noise.clip"), "h264", 10.0))
    with Watched(server.url("noise"), **IMPATIENT) as watched:
        watched.await_change("", online=False)
        wait_until(lambda: sum(lost.count for lost in watched.lost) > 20, limit_s=LIMIT_S, what="failed frames")
    assert not watched.frames
    assert {(lost.reason, lost.kind) for lost in watched.lost} == {("decode", Settled.FAILED)}


def write_h264_garbage(path: Path) -> None:
    """Writes a clip that no decoder can decode: its slices name a parameter set that does not exist."""
    write_clip(numbered_pictures(10), path, codec="h264", fps=10)
    data, at = bytearray(path.read_bytes()), 0
    while at < len(data):
        end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "big")
        payload = data.rindex(b"\x00\x00\x01", at + 5, end) + 4
        data[payload:end] = (b"\xc0\x40" + b"\x01" * (end - payload))[: end - payload]
        at = end
    path.write_bytes(bytes(data))


@pytest.mark.slow
@pytest.mark.fault(56)
def test_fault_56_frames_and_notices_report_a_clock_that_is_a_day_off_or_jumps(serve, tmp_path):
    server = serve(make_camera(tmp_path, "cam1", clock_shift_s=86_400.0))
    with Watched(server.url("cam1")) as watched:
        watched.await_change("86,400", online=True)
        watched.await_frames(len(watched.frames) + 3)
        off = watched.frames[-1]
        server.shift_clock("cam1", shifted=False)
        watched.await_change("clock is right again", online=True)
        right = watched.await_frames(len(watched.frames) + 2)[-1]
    assert off.clock is ClockSource.RTCP
    assert off.attributes["clock_offset_s"] == pytest.approx(86_400, abs=60)
    assert off.received is not None
    assert (off.timestamp - off.received).total_seconds() == pytest.approx(86_400, abs=60)
    assert "clock_offset_s" not in right.attributes


def test_credentials_are_neither_in_arguments_of_a_process_nor_in_yielded_items(serve, tmp_path):
    server = serve(make_camera(tmp_path, "secret", user="alice", password=CANARY))
    url = server.url("secret").replace("//", "//alice:pw-canary@")
    with Watched(url) as watched:
        watched.await_frames(3)
        commands = [command_of(entry) for entry in Path("/proc").glob("[0-9]*")]
        server.kill()
        watched.await_change("", online=False)
    assert not [command for command in commands if "pw-canary" in command]
    assert "canary" not in repr([item for item in watched.items if not isinstance(item, CapturedFrame)])
    assert "canary" not in repr([(f.attributes, f.name) for f in watched.frames])
    assert "canary" not in repr((watched.camera.address, watched.camera.now))


def test_a_reader_process_ends_with_its_parent_even_by_sigkill(serve, tmp_path):
    server = serve(make_camera(tmp_path, "cam1"))
    parent = subprocess.Popen([sys.executable, "-c", WATCHES, server.url("cam1")], stdout=subprocess.PIPE, text=True)
    with parent:
        child = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: is_gone(child), limit_s=60, what="the reader ends")


@pytest.mark.slow
def test_a_slow_parent_loses_the_oldest_frames_and_counts_them(serve, tmp_path):
    big = [np.random.default_rng(n).integers(0, 255, (720, 1280, 3), np.uint8) for n in range(6)]
    write_clip(big, tmp_path / "big.clip", codec="mjpeg", fps=20)
    server = serve(SimulatedCamera("big", str(tmp_path / "big.clip"), "mjpeg", 20.0))
    stop, items = threading.Event(), []
    camera = RtspSource("gate", server.url("big"), timing=RtspTiming(queue_frames=2))
    for item in camera.capture(stop):
        items.append(item)
        if isinstance(item, CapturedFrame) and not stop.is_set():
            stop.wait(0.4)
            if sum(isinstance(i, Lost) for i in items) >= 3:
                stop.set()
    lost = [item for item in items if isinstance(item, Lost)]
    assert {(item.reason, item.kind) for item in lost} == {("queue", Settled.DROPPED)}


def test_without_a_limit_every_frame_is_taken_even_if_its_time_goes_back():
    picker = RatePicker(None)
    assert all(picker.takes(at_s) for at_s in (1.0, 1.1, 1.05, 0.2, 0.2, 50.0))


def test_pauses_double_up_to_a_minute_and_are_random():
    rng = random.Random(1)  # noqa: S311 - spreads attempts, keeps no secret
    pauses = [pause_s(failures, RtspTiming(), rng) for failures in range(1, 12)]
    for failures, pause in enumerate(pauses, 1):
        longest = min(2.0 ** (failures - 1), 60.0)
        assert longest / 2 <= pause <= longest
    assert len(set(pauses)) == len(pauses)


def test_credentials_are_read_from_the_environment_and_otherwise_from_the_env_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("GATE_LOGIN='alice:in the file'\nIMGPIPELINE_LANES=2\n")
    assert read_credentials("GATE_LOGIN", None) == "alice:in the file"
    monkeypatch.setenv("GATE_LOGIN", "alice:in the environment")
    assert read_credentials("GATE_LOGIN", None) == "alice:in the environment"
    with pytest.raises(ConfigurationError, match=r"YARD_LOGIN is not set, neither .* nor in \.env"):
        read_credentials("YARD_LOGIN", None)


@pytest.mark.parametrize("content", ["", "\n", " \nalice:secret\n"])
def test_an_empty_file_of_credentials_is_refused_and_not_taken_as_none(tmp_path, content):
    (tmp_path / "gate").write_text(content)
    with pytest.raises(ConfigurationError, match="gate is empty"):
        read_credentials(None, tmp_path / "gate")
