"""`imgpipeline ingest rtsp`, `simulate rtsp` and `doctor --rtsp`: real cameras of the simulator, a real broker."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.objectstore import open_store
from imgpipeline_tests.cli.command import environment, run
from imgpipeline_tests.cli.samples import settings_of
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.rtsp_server import RtspServer, make_camera
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.numbered import read_number
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published

pytestmark = pytest.mark.servers
CANARY = "pw-canary-77"


@contextmanager
def serving(*cameras) -> Iterator[RtspServer]:
    server = RtspServer(cameras)
    with server:
        yield server


@pytest.mark.slow
def test_several_cameras_are_announced_side_by_side_and_the_password_is_nowhere(site, tmp_path):
    secret = make_camera(tmp_path, "secret", user="alice", password=CANARY)
    with serving(secret, make_camera(tmp_path, "open", codec="mjpeg")) as server:
        urls = [server.url("secret"), server.url("open"), server.url("missing")]
        ended = run(
            "--verbose", "ingest", "rtsp", *urls, "--credentials-env", "CAMERA_LOGIN", "--fps", "5", "--duration", "12",
            "--json", env={**site, "CAMERA_LOGIN": f"alice:{CANARY}"}, cwd=tmp_path,
        )  # fmt: skip
    assert ended.status == 0, ended.stderr
    assert CANARY not in ended.stdout + ended.stderr
    told = {one["source"]: one for one in ended.json()}
    records = read_published(settings_of(site))
    assert CANARY not in repr(records)
    for name in ("secret", "open"):
        one = told[name]
        assert one["announced"] == sum(frame.source == name for frame in frames_in(records)) > 10
        assert one["received"] == one["announced"] + one["gated"] + sum(one["dropped"].values()) + one["failed"]
        said = [account.account for account in accounts_in(records) if account.source == name and account.account]
        assert sum(account.received for account in said) == one["received"]
    assert told["missing"]["received"] == 0
    assert "404 not found" in ended.stderr


@pytest.mark.slow
def test_ctrl_c_ends_the_cameras_with_their_accounts(site, tmp_path):
    settings = settings_of(site)
    with serving(make_camera(tmp_path, "cam1")) as server:
        command = [sys.executable, "-m", "imgpipeline.cli", "ingest", "rtsp", server.url("cam1"), "--json"]
        child = subprocess.Popen(command, env=environment(site), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: len(frames_in(read_published(settings))) > 5, limit_s=120, what="frames", interval_s=0.5)
        os.kill(child.pid, signal.SIGINT)
        stdout, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    [one] = json.loads(stdout)
    assert one["in_flight"] == 0
    assert one["announced"] == len(frames_in(read_published(settings)))


@pytest.mark.slow
def test_simulated_cameras_stream_frames_whose_truth_is_known(site, tmp_path):
    port, api_port = free_port(), free_port()
    command = [sys.executable, "-m", "imgpipeline.cli", "simulate", "rtsp", "--cameras", "2", "--port", str(port),
               "--api-port", str(api_port), "--scene-s", "4", "--output", str(tmp_path / "truth")]  # fmt: skip
    simulator = subprocess.Popen(command, env=environment(site), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        said = [simulator.stderr.readline() for _ in range(3)]
        if "needs GStreamer" in "".join(said):
            pytest.skip("GStreamer's RTSP server is not installed. Install it with: make servers")
        url = f"rtsp://127.0.0.1:{port}/cam2"
        paths = ask(api_port, "/v1/paths")
        assert sorted(paths["items"]) == ["cam1", "cam2"]
        assert ask(api_port, "/v1/config")["rtspAddress"] == f"127.0.0.1:{port}"
        assert run("ingest", "rtsp", url, "--duration", "9", "--json", env=site, cwd=tmp_path).status == 0
    finally:
        simulator.send_signal(signal.SIGTERM)
        simulator.communicate(timeout=30)
    assert simulator.returncode == 0
    settings = settings_of(site)
    store, numbers = open_store(settings), []
    for frame in frames_in(read_published(settings)):
        pixels = cv2.imdecode(np.frombuffer(store.get(str(frame.image_path)), np.uint8), cv2.IMREAD_COLOR)
        numbers.append(read_number(pixels))
    truth = [json.loads(line) for line in (tmp_path / "truth" / "cam2.truth.jsonl").read_text().splitlines()]
    assert [line["number"] for line in truth] == list(range(20))
    assert len(numbers) > 15
    assert numbers == [((numbers[0] or 0) + n) % 20 for n in range(len(numbers))]
    assert any(line["objects"] for line in truth)


def ask(port: int, path: str) -> dict:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_the_doctor_tells_what_a_camera_sends(site, tmp_path):
    with serving(make_camera(tmp_path, "cam1", fps=5.0)) as server:
        ended = run(
            "doctor", "--json", "--rtsp", server.url("cam1"), "--rtsp", server.url("none"), env=site, cwd=tmp_path
        )
    found = {check["name"]: check for check in ended.json()["checks"]}
    good, bad = found[server.url("cam1")], found[server.url("none")]
    assert good["status"] == "ok", good
    assert "frames/s, h264, 320x176, its own clock" in good["message"]
    assert 3 < float(good["message"].split()[0]) < 8
    assert (bad["status"], ended.status) == ("failed", 1)
    assert "404 not found" in bad["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No camera is named"),
        (["http://camera/x"], "not an RTSP URL"),
        (["rtsp://alice:pw-canary-77@a/x", "--source", "a", "--source", "b"], "1 URLs, but 2 names"),
        (["rtsp://a/x", "rtsp://b/x"], "same name"),
        (["rtsp://a/x", "--credentials-env", "NOT_SET"], "NOT_SET is not set"),
        (["rtsp://a/x", "--credentials-file", "absent"], "cannot be read"),
    ],
    ids=["no camera", "scheme", "names", "doubled", "variable", "file"],
)
def test_a_wrong_call_is_refused_with_its_reason_and_without_the_password(tmp_path, arguments, message):
    ended = run("ingest", "rtsp", *arguments, env={}, cwd=tmp_path)
    assert ended.status in (1, 2)
    assert message in ended.stderr
    assert CANARY not in ended.stderr


@pytest.mark.slow
def test_the_camera_of_a_classic_dotenv_file_is_read(site, tmp_path):
    with serving(make_camera(tmp_path, "test")) as server:
        (tmp_path / ".env").write_text(f"RTSP_URL={server.url('test')}\n")
        ended = run("ingest", "rtsp", "--duration", "6", "--json", env=site, cwd=tmp_path)
    assert (ended.status, "Warning" in ended.stderr) == (0, False)
    [camera] = ended.json()
    announced = len(frames_in(read_published(settings_of(site))))
    assert (camera["source"], camera["announced"], announced > 0) == ("test", announced, True)


@pytest.mark.slow
def test_frames_without_a_sender_report_have_the_receivers_clock(site, tmp_path):
    with serving(make_camera(tmp_path, "cam1")) as server:
        run("ingest", "rtsp", server.url("cam1"), "--duration", "6", env=site, cwd=tmp_path)
    clocks = [frame.clock_source for frame in frames_in(read_published(settings_of(site)))]
    assert set(clocks) <= {ClockSource.RECEIVER, ClockSource.RTCP}
    assert clocks == sorted(clocks, key=lambda clock: clock is ClockSource.RTCP)
