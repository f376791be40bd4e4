"""The routes of the classic data generator: a job plays a video into Kafka and survives a restart."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from shutil import rmtree

import cv2
import httpx
import numpy as np
import pytest

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg
from imgpipeline_tests.detect.conftest import lane as lane  # noqa: PLC0414 - a fixture
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import frames_in, read_published
from imgpipeline_tests.web.ingest.serving import serving

FRAMES = 12


@pytest.fixture
def playing(lane: LaneUnderTest, tmp_path: Path) -> LaneUnderTest:
    """A lane with a data set: the sequence `uav` and the video `street.avi`."""
    folder = tmp_path / "data" / "sequences" / "uav"
    folder.mkdir(parents=True)
    for number in range(FRAMES):
        (folder / f"{number + 1:07d}.jpg").write_bytes(jpeg() + f"number {number}".encode())
    video = cv2.VideoWriter(str(tmp_path / "data" / "street.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(5):
        video.write(np.full((48, 64, 3), 20 * number, np.uint8))
    video.release()
    return lane.with_settings(
        dataset_root=tmp_path / "data", jobs_dir=tmp_path / "jobs", api_keys_file=tmp_path / "keys.json"
    )


@pytest.fixture
def client(playing: LaneUnderTest) -> Iterator[httpx.Client]:
    with serving(playing.settings) as client:
        yield client


def played(lane: LaneUnderTest) -> list[FrameMessage]:
    return frames_in(read_published(lane.settings))


def ended(client: httpx.Client, location: str) -> dict[str, object]:
    wait_until(lambda: client.get(location).json()["state"] != "running", limit_s=60, what="the end of the job")
    return dict(client.get(location).json())


def test_start_plays_a_sequence_and_answers_immediately_with_a_job(client, playing):
    answer = client.post("/start/uav", params={"interval_s": 0.01})
    assert answer.status_code == 202
    job = ended(client, answer.headers["location"])
    assert (job["state"], job["sent"], job["frames"]) == ("done", FRAMES, FRAMES)
    frames = played(playing)
    assert [frame.attributes["frame_id"] for frame in frames] == [f"frame_{number:05d}" for number in range(FRAMES)]
    assert {frame.source for frame in frames} == {frame.attributes["video_id"] for frame in frames} == {"uav"}
    assert playing.store.get(str(frames[3].image_path)).endswith(b"number 3")


@pytest.mark.parametrize("name", ["uav", "street.avi", "street"])
def test_with_wait_the_answer_is_the_classic_one(client, name):
    answer = client.post(f"/start/{name}", params={"wait": True, "interval_s": 0})
    assert answer.status_code == 200
    assert answer.json() == {"status": f"Sent {FRAMES if name == 'uav' else 5} frames from {name}."}


def test_a_setting_makes_the_classic_answer_the_default(playing):
    with serving(playing.with_settings(start_waits=True).settings) as client:
        assert client.post("/start/street.avi").json() == {"status": "Sent 5 frames from street.avi."}


@pytest.mark.parametrize("name", ["absent", "..", "%2e%2e%2fdata", "annotations"])
def test_a_video_that_the_data_set_does_not_have_is_an_error(client, name):
    answer = client.post(f"/start/{name}")
    assert answer.status_code in {400, 404, 405}
    assert answer.status_code != 400 or "error" in answer.json()


def test_a_repeated_request_with_the_same_key_finds_the_job(client, playing):
    headers = {"idempotency-key": "one"}
    jobs = [client.post("/start/uav", params={"interval_s": 0}, headers=headers).json() for _ in range(2)]
    assert jobs[0]["id"] == jobs[1]["id"]
    ended(client, f"/jobs/{jobs[0]['id']}")
    assert len(played(playing)) == FRAMES


def test_a_job_can_be_stopped(client):
    location = client.post("/start/uav", params={"interval_s": 3600}).headers["location"]
    assert client.delete(location).json()["state"] == "stopped"
    assert client.get("/jobs/absent").status_code == 404


@pytest.mark.slow
def test_a_job_continues_after_a_restart_with_the_same_times(playing):
    with serving(playing.settings) as client:
        location = client.post("/start/uav", params={"interval_s": 1}).headers["location"]
        # The job says what it has sent. Reading the topic can outlast the job on a busy machine.
        wait_until(lambda: client.get(location).json()["sent"] >= 1, limit_s=60, what="the first frame")
    before = played(playing)
    assert len(before) < FRAMES
    with serving(playing.settings) as client:
        assert ended(client, location)["sent"] == FRAMES
    frames = played(playing)
    assert [frame.frame_number for frame in frames] == list(range(FRAMES))
    steps = {(after.timestamp - frame.timestamp).total_seconds() for frame, after in pairwise(frames)}
    assert steps == {1.0}


def test_a_job_whose_progress_cannot_be_stored_ends(playing):
    with serving(playing.settings) as client:
        location = client.post("/start/uav", params={"interval_s": 0.2}).headers["location"]
        rmtree(playing.settings.jobs_dir)
        playing.settings.jobs_dir.touch()
        job = ended(client, location)
    assert job["state"] == "failed"
    assert "cannot be stored" in str(job["error"])


def test_a_file_instead_of_the_folder_of_sequences_is_no_folder(playing, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sequences").touch()
    with serving(playing.with_settings(dataset_root=tmp_path / "other").settings) as client:
        assert client.get("/data_status").json()["expected_subdirs_found"] == []


DATA_STATUS = {
    "dataset_path": str,
    "path_exists": bool,
    "is_directory": bool,
    "contents": list,
    "expected_subdirs_checked": list,
    "expected_subdirs_found": list,
    "all_expected_subdirs_found": bool,
    "sequences_subdir_exists": bool,
    "sequences_subdir_contents_count": int,
    "sequences_subdir_contents_sample": list,
}
"""Fields and types of the classic `/data_status`."""


def types_of(document: Mapping[str, object]) -> dict[str, type]:
    return {name: type(value) for name, value in document.items()}


def test_the_state_of_service_and_data_has_the_classic_form(client, playing):
    assert client.get("/").text == "data_generator is running!"
    status = client.get("/status").json()
    assert types_of(status) == {
        "service_name": str,
        "python_version": str,
        "kafka_broker_env": str,
        "dataset_path_configured": bool,
        "dataset_path_exists": bool,
    }
    assert (status["dataset_path_configured"], status["dataset_path_exists"]) == (True, True)
    answer = client.get("/data_status")
    assert (answer.status_code, types_of(answer.json())) == (200, DATA_STATUS)
    data = answer.json()
    assert data["dataset_path"] == str(playing.settings.dataset_root)
    assert data["contents"] == ["sequences", "street.avi"]
    assert data["expected_subdirs_checked"] == ["annotations", "sequences"]
    assert data["expected_subdirs_found"] == ["sequences"]
    assert data["all_expected_subdirs_found"] is False
    assert (data["sequences_subdir_contents_count"], data["sequences_subdir_contents_sample"]) == (1, ["uav"])


def test_without_a_data_set_the_state_of_data_is_an_error_with_all_fields(playing, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SERVICE_NAME=generator-7\n")
    with serving(playing.with_settings(dataset_root=None).settings) as other:
        assert other.get("/").text == "generator-7 is running!"
        status = other.get("/status").json()
        assert (status["dataset_path_configured"], status["dataset_path_exists"]) == (False, False)
        answer = other.get("/data_status")
        assert answer.status_code == 400
        assert types_of(answer.json()) == DATA_STATUS | {"dataset_path": type(None), "error": str}
