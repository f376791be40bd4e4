"""Posted images become frames: answered when they are safe, refused early, and never counted twice."""

import base64
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from imgpipeline.contracts.outcomes import make_frame_id
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.options import Preparation, PublishOptions
from imgpipeline.web.ingest.app import serve
from imgpipeline.web.keys import KeyFile, Scope
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg
from imgpipeline_tests.detect.conftest import lane as lane  # noqa: PLC0414 - a fixture
from imgpipeline_tests.faults.child_runs import environment_of, variables_of
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import frames_in, read_published
from imgpipeline_tests.web.ingest.serving import serving

IMAGE = {"content-type": "image/jpeg"}


@pytest.fixture
def posting(lane: LaneUnderTest, tmp_path: Path) -> LaneUnderTest:
    """A lane whose API keys are in a file of the test."""
    return lane.with_settings(api_keys_file=tmp_path / "keys.json", max_image_bytes=1_000_000)


@pytest.fixture
def client(posting: LaneUnderTest) -> Iterator[httpx.Client]:
    with serving(posting.settings) as client:
        yield client


def png() -> bytes:
    return cv2.imencode(".png", np.zeros((24, 32, 3), np.uint8))[1].tobytes()


def vast(image: bytes) -> bytes:
    """Returns a JPEG whose frame header claims 60,000 by 60,000 pixels."""
    at = image.index(b"\xff\xc0") + 5
    return image[:at] + struct.pack(">HH", 60_000, 60_000) + image[at + 4 :]


def stored_images(lane: LaneUnderTest) -> int:
    return len(list(lane.store.list_objects("images")))


def test_a_posted_image_is_stored_and_announced_before_the_answer(client, posting):
    query = {"timestamp": "2026-03-01T12:00:00Z", "number": 7, "attributes": '{"lens": "wide"}'}
    answer = client.post("/frames/gate", content=jpeg(), headers=IMAGE, params=query)
    assert answer.status_code == 201
    assert posting.store.get(answer.json()["image"]) == jpeg()
    [announced] = frames_in(read_published(posting.settings))
    assert (announced.source, announced.frame_number, announced.attributes["lens"]) == ("gate", 7, "wide")
    posting.follow()
    [frame] = posting.frames()
    expected = make_frame_id("gate", datetime(2026, 3, 1, 12, tzinfo=UTC), 7)
    assert answer.json()["frame_id"] == frame.frame_id == expected


@pytest.mark.parametrize(
    ("headers", "frames"),
    [
        pytest.param({}, 1, id="by content"),
        pytest.param({"x-frame-timestamp": "2026-03-01T12:00:00Z"}, 1, id="by time"),
        pytest.param({"idempotency-key": "a"}, 1, id="by key"),
    ],
)
def test_an_image_that_is_posted_again_is_one_frame(client, posting, headers, frames):
    answers = [client.post("/frames/gate", content=jpeg(), headers=IMAGE | headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["image"] == answers[1].json()["image"]
    posting.follow()
    assert len({(frame.frame_id, frame.day) for frame in posting.frames()}) == frames
    assert stored_images(posting) == 1


def test_idempotency_keys_distinguish_frames_of_the_same_content(client, posting):
    for key in ("a", "b"):
        client.post("/frames/gate", content=jpeg(), headers=IMAGE | {"idempotency-key": key})
    posting.follow()
    assert len({frame.frame_id for frame in posting.frames()}) == 2


@pytest.mark.parametrize(
    ("code", "headers", "content", "said"),
    [
        pytest.param(415, {"content-type": "text/plain"}, jpeg(), "expected image/jpeg", id="type"),
        pytest.param(413, IMAGE, bytes(1_000_001), "the limit is 1000000", id="size"),
        pytest.param(422, IMAGE, b"", "no bytes", id="empty"),
        pytest.param(422, IMAGE, b"no image", "cannot be read", id="no image"),
        pytest.param(422, IMAGE, jpeg()[:-40], "the file is truncated", id="truncated JPEG"),
        pytest.param(422, IMAGE, png()[:-20], "the file is truncated", id="truncated PNG"),
        pytest.param(422, IMAGE, vast(jpeg()), "60000x60000", id="pixels"),
        pytest.param(422, IMAGE | {"x-frame-number": "-1"}, jpeg(), "number", id="number"),
        pytest.param(422, IMAGE | {"x-frame-number": "9" * 5000}, jpeg(), "number", id="endless-number"),
        pytest.param(422, IMAGE | {"x-frame-timestamp": "noon"}, jpeg(), "RFC 3339", id="timestamp"),
        pytest.param(422, IMAGE | {"x-frame-attributes": "[]"}, jpeg(), "a JSON object", id="attributes"),
    ],
)
def test_an_invalid_request_is_refused_with_the_reason_and_stores_nothing(
    client, posting, code, headers, content, said
):
    answer = client.post("/frames/gate", content=content, headers=headers)
    assert answer.status_code == code
    assert said in answer.json()["detail"]
    assert stored_images(posting) == 0


def test_a_body_that_is_too_large_is_refused_before_it_is_read(client):
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
        connection.sendall(b"POST /frames/gate HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
                           b"Content-Length: 99999999999\r\n\r\n")  # fmt: skip
        connection.settimeout(30)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("has_length", [True, False], ids=["length", "chunks"])
def test_a_client_that_sends_a_body_that_is_too_large_gets_the_answer_instead_of_a_reset(client, posting, has_length):
    headers = IMAGE | ({"content-length": str(70 * 2**20)} if has_length else {})
    # httpx would read the answer of a connection that was reset, which most clients do not.
    plain = HTTPConnection(client.base_url.host, client.base_url.port, timeout=60)
    with closing(plain):
        plain.request("POST", "/frames/gate", iter([bytes(2**20)] * 70), headers, encode_chunked=not has_length)
        with plain.getresponse() as answer:
            assert answer.status == 413
            assert "1000000" in answer.read().decode()
        plain.request("POST", "/frames/gate", jpeg(), IMAGE)
        assert plain.getresponse().status == 201
    assert stored_images(posting) == 1


def test_a_batch_has_a_result_for_each_line_and_an_invalid_line_does_not_stop_the_others(client, posting):
    image = base64.b64encode(jpeg()).decode()
    lines = [
        json.dumps({"image": image, "timestamp": "2026-03-01T12:00:00Z", "number": 1}),
        "no JSON",
        json.dumps({"image": "no base64"}),
        json.dumps({"image": image, "timestamp": "2026-03-01T12:00:01Z", "number": 2, "lens": "wide"}),
    ]
    answer = client.post(
        "/frames/gate/batch", content="\n".join(lines), headers={"content-type": "application/x-ndjson"}
    )
    assert [entry["code"] for entry in answer.json()["frames"]] == [201, 422, 422, 201]
    assert [frame.frame_number for frame in frames_in(read_published(posting.settings))] == [1, 2]


def test_a_key_is_required_and_valid_only_for_its_sources(posting):
    key = KeyFile(posting.settings.api_keys_file).add(("gate",), datetime.now(UTC))
    with serving(posting.settings) as client:

        def code(source: str, headers: dict[str, str]) -> int:
            return client.post(f"/frames/{source}", content=jpeg(), headers=IMAGE | headers).status_code

        assert code("gate", {}) == 401
        assert code("gate", {"authorization": "Bearer wrong"}) == 401
        assert code("yard", {"authorization": f"Bearer {key}"}) == 403
        assert code("gate", {"authorization": f"Bearer {key}"}) == 201
        assert code("gate", {"x-api-key": key}) == 201
        assert client.get("/health").status_code == 200
        keys = KeyFile(posting.settings.api_keys_file)
        reader = keys.add((), datetime.now(UTC), scopes=(Scope.READ,))
        assert code("gate", {"authorization": f"Bearer {reader}"}) == 403
        for each in keys.keys(Scope.INGEST):
            keys.remove(each.id)
        assert code("gate", {}) == 401, "removing the last key opened the server"


def test_without_keys_a_web_page_of_another_host_name_cannot_reach_the_server(client):
    answer = client.post("/frames/gate", content=jpeg(), headers=IMAGE | {"host": "evil.example"})
    assert answer.status_code == 400


def test_the_api_page_needs_no_other_server(client):
    page = client.get("/docs").text
    assert "POST /frames/{source}" in page
    assert "https://" not in page
    assert "/frames/{source}/batch" in client.get("/openapi.json").json()["paths"]


def test_the_server_is_ready_when_store_and_kafka_answer(client, posting):
    assert client.get("/ready").json() == {"status": "ready"}
    absent = posting.with_settings(kafka_topics=("absent",))
    with serving(absent.settings) as other:
        answer = other.get("/ready")
    assert answer.status_code == 503
    assert "absent" in answer.json()["reason"]


@pytest.mark.fault(57)
def test_fault_57_a_client_that_vanishes_in_the_middle_of_a_body_leaves_nothing(client, posting):
    head = b"POST /frames/gate HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
        connection.sendall(head % len(jpeg()) + jpeg()[:1000])
    answer = client.post("/frames/gate", content=jpeg(), headers=IMAGE)
    assert answer.status_code == 201
    assert stored_images(posting) == 1
    assert len(frames_in(read_published(posting.settings))) == 1


@pytest.mark.slow
@pytest.mark.fault(57)
@pytest.mark.parametrize("step", ["frame stored", "frames announced"])
def test_fault_57_a_server_killed_before_its_answer_announces_nothing_unstored_and_a_retry_is_one_frame(
    posting, tmp_path, step
):
    environment = environment_of(posting.settings)
    with subprocess.Popen(
        [sys.executable, "-m", "imgpipeline.cli", "serve-ingest", "--port", str(port := free_port())],
        env={**environment, **variables_of(f"{step}~gate=kill")},
        cwd=tmp_path,
    ) as process:
        address = f"http://{LOOPBACK}:{port}"
        wait_until(lambda: is_healthy(address), limit_s=60, what="the HTTP server")
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{address}/frames/gate", content=jpeg(), headers=IMAGE, timeout=60)
        assert process.wait(60) == -signal.SIGKILL
    for message in frames_in(read_published(posting.settings)):
        assert posting.store.get(str(message.image_path)) == jpeg()
    with serving(posting.settings) as client:
        assert client.post("/frames/gate", content=jpeg(), headers=IMAGE).status_code == 201
    posting.follow()
    assert len({(frame.frame_id, frame.day) for frame in posting.frames()}) == 1
    assert stored_images(posting) == 1


def is_healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, store_url=tmp_path.as_uri(), api_keys_file=tmp_path / "keys.json")


def test_the_error_of_an_address_in_use_names_it(settings):
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"{LOOPBACK}:{port} cannot be opened"):
            serve(settings, LOOPBACK, port, threading.Event())


def test_an_address_that_other_machines_can_reach_needs_a_key(settings):
    with pytest.raises(UsageError, match="There is no API key, so everyone"):
        serve(settings, "0.0.0.0", 0, threading.Event())  # noqa: S104 - refused before it is opened


def test_a_server_that_changes_images_does_not_name_the_stored_image(lane, tmp_path):
    posting, board = lane.with_settings(api_keys_file=tmp_path / "keys.json"), Board()
    options = PublishOptions(preparation=Preparation(resize=(6, 4)))
    with serving(posting.settings, options=options, board=board) as client:
        answer = post(client, {"timestamp": "2026-03-01T12:00:00Z"})
        numbered = post(client, {"timestamp": "2026-03-01T12:00:01Z", "number": "7"})
    assert [told["status"] for told in (answer, numbered)] == ["announced", "announced"]
    assert not {"image", "sha256"} & answer.keys()
    assert answer["frame_id"] is None
    posting.follow()
    frames = sorted(posting.frames(), key=lambda frame: frame.timestamp)
    assert [(frame.image_width, frame.image_height) for frame in frames] == [(6, 4), (6, 4)]
    assert numbered["frame_id"] == frames[1].frame_id
    assert [status.source for status in board.statuses()] == ["gate"]


def post(client: httpx.Client, query: dict[str, str]) -> dict[str, str | None]:
    answer = client.post("/frames/gate", content=jpeg(), headers={"content-type": "image/jpeg"}, params=query)
    told: dict[str, str | None] = answer.json()
    return told
