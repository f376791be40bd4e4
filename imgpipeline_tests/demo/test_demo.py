"""The demo as a user runs it: the real command, with its own broker, store and Dagster."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from imgpipeline.demo.run import DemoOptions, first_day
from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.simulator.rtsp_simulator import check_program
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.detect.conftest import jpeg
from imgpipeline_tests.servers.waiting import wait_until

COMMAND = [sys.executable, "-m", "imgpipeline.cli", "demo"]
LIMIT_S = 880


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "demo"


@pytest.fixture(autouse=True)
def nothing_is_left(folder: Path) -> Iterator[None]:
    """Checks after each test that no process uses the demo's folder any more."""
    yield
    wait_until(lambda: not processes_in(folder), limit_s=60, what="the end of the demo's servers", interval_s=0.2)


def processes_in(folder: Path) -> list[str]:
    """Returns the commands of the processes whose arguments or environment name a folder."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and int(process.name) != os.getpid():
                said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                if str(folder).encode() in said:
                    found.append(said.partition(b"\0")[0].decode())
        except OSError:
            continue
    return found


def run_demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--folder", folder, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 20)
def test_the_demo_counts_correctly_and_proves_it(folder):
    done = run_demo(folder)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Success: the counts match the truth, and the audit passed." in done.stdout
    assert re.search(r"Audit passed: 700 frames and 0 dead letters in 4 partitions, 0 offsets missing", done.stdout)
    rows = re.findall(r"(person|bicycle|car|dog)@\S+ \d\d:00 +│ +(\d+) │ +(\d+) │", done.stdout)
    assert len(rows) == 16
    assert sum(int(truth) for _, _, truth in rows) > 3000
    unique = re.findall(r"│ (person|bicycle|car|dog) +│ +(\d+) │ +(\d+) │ +(\d+) │", done.stdout)
    assert len(unique) == 4
    assert all(int(detections) > 20 * int(objects) for _, detections, objects, _ in unique)
    assert sum(abs(int(objects) - int(truth)) for _, _, objects, truth in unique) <= 1
    sampled = re.findall(r"  (\w+): counted (\d+), (?:95 % interval|no interval).+ \((\d+)\)", done.stdout)
    assert {label for label, _, _ in sampled} == {"person", "bicycle", "car", "dog"}
    # Without a terminal, the servers do not keep running.
    assert "Ctrl-C" not in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 20)
def test_the_demo_runs_on_the_users_images_with_the_users_model(folder, shared_data):
    model = shared_data / "models" / "yolox_nano.onnx"

    done = run_demo(folder, f"--images={shared_data / 'images'}", f"--model={model}")

    assert done.returncode == 0, done.stdout + done.stderr
    counted = dict(re.findall(r"(\w+)@\S+ \d\d:00 +│ +(\d+) │", done.stdout))
    assert {"dog", "bicycle", "person"} <= counted.keys()
    assert "Audit passed: 2 frames" in done.stdout


@pytest.mark.slow
def test_a_demo_that_is_stopped_stops_its_servers(folder):
    demo = subprocess.Popen([*COMMAND, "--folder", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in demo.stdout:
            if "Viewer:" in line:
                break
        viewer = re.findall(r"http://\S+", line)[0]
        with urllib.request.urlopen(f"{viewer}/api/v1/status", timeout=60) as status:  # noqa: S310 - our own server
            assert status.status == 200
        assert len(processes_in(folder)) > 3
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=60)

    assert demo.returncode == 128 + signal.SIGTERM
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(viewer, timeout=5)  # noqa: S310 - our own server


@pytest.mark.medium
def test_a_folder_of_something_else_is_not_emptied(folder):
    folder.mkdir()
    precious = folder / "precious.txt"
    precious.write_text("keep me")

    done = run("demo", "--folder", folder, cwd=folder)

    assert done.status == 1
    assert "does not belong to a demo" in done.stderr
    assert precious.read_text() == "keep me"


@pytest.mark.medium
def test_a_video_that_does_not_exist_is_refused(folder):
    done = run("demo", "--folder", folder, "--video=absent.mp4", cwd=folder.parent)
    assert (done.status, "There is no absent.mp4" in done.stderr, folder.exists()) == (1, True, False)


def test_the_days_in_the_ui_start_with_the_users_first_image(tmp_path):
    """Without a first day, they would start in 2000, and every list of days would have thousands of entries."""
    for name, modified in (("a.jpg", datetime(2026, 3, 2, 1, tzinfo=UTC)), ("b.jpg", datetime(2026, 3, 1, tzinfo=UTC))):
        (tmp_path / name).write_bytes(jpeg())
        os.utime(tmp_path / name, (modified.timestamp(), modified.timestamp()))

    assert first_day(DemoOptions(tmp_path / "demo", images=tmp_path)) == date(2026, 3, 1)


def test_the_days_in_the_ui_start_with_the_users_video(tmp_path):
    video = tmp_path / "gate.avi"
    write_avi(video)
    modified = datetime(2026, 3, 2, 1, tzinfo=UTC).timestamp()
    os.utime(video, (modified, modified))

    assert first_day(DemoOptions(tmp_path / "demo", video=video)) == date(2026, 3, 2)


def write_avi(path: Path) -> None:
    """Writes a video without a creation time."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()


@pytest.mark.medium
def test_a_port_in_use_is_refused_before_anything_starts(folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("demo", "--folder", folder, f"--viewer-port={port}", cwd=folder.parent)

    assert done.status == 1
    assert f"127.0.0.1:{port}: Address already in use" in done.stderr
    assert "another --viewer-port" in done.stderr
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(LIMIT_S + 20)
def test_the_accounts_of_live_cameras_balance_after_drops_and_an_outage(folder):
    try:
        check_program()
    except ConfigurationError as missing:
        pytest.skip(str(missing))
    done = run_demo(folder, "--cameras", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "received = announced + gated + dropped + failed" in done.stdout
    assert re.search(r"cam1 .* queue \d+ ", done.stdout)
    assert "Success: every announced frame has an outcome, and the audit passed." in done.stdout
