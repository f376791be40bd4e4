"""The HTTP source runs until it is stopped, or reports why it cannot start."""

import socket
import threading
from pathlib import Path

import httpx
import pytest

from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.options import Preparation, PublishOptions
from imgpipeline.web.ingest.app import serve
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg
from imgpipeline_tests.detect.conftest import lane as lane  # noqa: PLC0414 - a fixture
from imgpipeline_tests.servers.ports import LOOPBACK
from imgpipeline_tests.web.ingest.serving import serving


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, store_url=tmp_path.as_uri(), api_keys_file=tmp_path / "keys.json")


def test_the_error_of_an_address_in_use_names_it(settings: Settings):
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"{LOOPBACK}:{port} cannot be opened"):
            serve(settings, LOOPBACK, port, threading.Event())


def test_an_address_that_other_machines_can_reach_needs_a_key(settings: Settings):
    with pytest.raises(UsageError, match="There is no API key, so everyone"):
        serve(settings, "0.0.0.0", 0, threading.Event())  # noqa: S104 - refused before it is opened


def test_a_server_that_changes_images_does_not_name_the_stored_image(lane: LaneUnderTest, tmp_path: Path):
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
