"""Images in a folder that producers share with detection runs; docs/producers.md has the other forms of messages."""

import json
from pathlib import Path

import pytest

from imgpipeline import Lake
from imgpipeline.errors import DeadLetterCode
from imgpipeline.settings import load_settings
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg


def test_a_frame_store_beside_the_store_is_read_by_video_and_frame(
    lane: LaneUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shared = tmp_path / "frame_store"
    shared.mkdir()
    (shared / "uav0000086_frame_00001.jpg").write_bytes(jpeg())
    monkeypatch.setenv("IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS", shared.as_uri())
    monkeypatch.setenv("IMGPIPELINE_IMAGE_PATH_TEMPLATE", f"{shared}/{{video_id}}_{{frame_id}}.jpg")
    site = LaneUnderTest(load_settings(**lane.settings.model_dump(exclude_unset=True)))
    by_number = {"frame_id": "frame_00001", "timestamp": "2026-03-01T12:00:00+00:00", "video_id": "uav0000086"}
    by_path = {"image_path": f"{shared}/uav0000086_frame_00001.jpg", "video_id": "uav0000086"}
    elsewhere = {"image_path": str(tmp_path / "elsewhere.jpg")}
    site.send(*(json.dumps(value).encode() for value in (by_number, by_path, elsewhere)))
    site.follow()
    path = f"{shared}/uav0000086_frame_00001.jpg"
    assert [(frame.source, frame.source_image_path) for frame in site.frames()] == [("uav0000086", path)] * 2
    assert [letter.code for letter in site.dead_letters()] == [DeadLetterCode.PATH_NOT_ALLOWED]
    lake = Lake.open(site.settings)
    assert lake.image(site.frames()[0].day, site.frames()[0].frame_id).shape == (360, 640, 3)
