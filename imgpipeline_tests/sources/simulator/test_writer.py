"""A simulated scene is written as files: frames with names and times, and their truth."""

import json
import threading
from datetime import UTC, datetime, timedelta, timezone

import cv2
import numpy as np
import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.writer import (
    rotated_pictures,
    scene_pictures,
    truth_of,
    write_pictures,
    write_scene,
)
from imgpipeline_tests.cli.command import run

START = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def test_a_written_scene_has_the_pictures_and_objects_of_the_scene(tmp_path):
    scene = Scene(11, frames=5)

    written = write_scene(scene, tmp_path, source="gate", start=START, interval_s=0.5, first_frame_number=40)

    assert [frame.frame_number for frame in written] == [40, 41, 42, 43, 44]
    assert [frame.file for frame in written] == [f"frame_{n:06d}.jpg" for n in range(40, 45)]
    modified = [(tmp_path / frame.file).stat().st_mtime for frame in written]
    assert modified == [frame.timestamp.timestamp() for frame in written]
    assert [frame.timestamp - START for frame in written] == [i * timedelta(seconds=0.5) for i in range(5)]
    assert {frame.source for frame in written} == {"gate"}
    for index, frame in enumerate(written):
        assert ((tmp_path / frame.file).read_bytes(), list(frame.objects)) == scene.jpeg(index)


def test_the_truth_has_one_json_document_per_line_with_xywh_boxes_and_rfc_3339_times(tmp_path):
    start = START.astimezone(timezone(timedelta(hours=5, minutes=30)))
    [frame] = write_scene(Scene(2, frames=1), tmp_path, source="gate", start=start)

    [line] = (tmp_path / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    document = json.loads(line)

    assert frame.timestamp.utcoffset() == timedelta(0)
    first = frame.objects[0]
    left, top, right, bottom = first.box_xyxy
    assert document.keys() == {"file", "source", "frame_number", "timestamp", "objects"}
    assert document["file"] == "frame_000000.jpg"
    assert document["timestamp"] == "2026-03-04T12:00:00.000000Z"
    assert document["objects"][0] == {
        "label": first.label,
        "track_id": first.track_id,
        "box": [left, top, right - left, bottom - top],
        "visible": first.visible,
    }


def picture() -> bytes:
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:10] = 255
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def test_the_third_and_the_seventh_of_ten_pictures_are_rotated(tmp_path):
    folder = tmp_path / "image_receiving"
    written = write_pictures(
        folder, rotated_pictures(picture()), name="{n:05d}.jpg", fps=0, stop=threading.Event(),
        truth_file=truth_of(folder),
    )  # fmt: skip
    files = sorted(folder.iterdir())
    assert written == 10
    assert [file.name for file in files] == [f"{number:05d}.jpg" for number in range(1, 11)]
    contents = [file.read_bytes() for file in files]
    assert contents[0] == picture()
    assert [n for n in range(2, 11) if contents[n - 1] != contents[n - 2]] == [3, 7]
    sizes = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2] for data in contents]
    assert [sizes[n] for n in (0, 2, 6)] == [(30, 60), (60, 30), (30, 60)]
    truths = [json.loads(line) for line in truth_of(folder).read_text().splitlines()]
    assert [truth["file"] for truth in truths if truth["differs_from_previous"]] == ["00003.jpg", "00007.jpg"]


def test_a_scene_comes_with_its_truth(tmp_path):
    folder, stop = tmp_path / "cam1", threading.Event()
    write_pictures(folder, scene_pictures(7, 5), name="{n}.jpg", fps=0, stop=stop, truth_file=truth_of(folder))
    truths = [json.loads(line) for line in truth_of(folder).read_text().splitlines()]
    assert [truth["file"] for truth in truths] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]
    assert any(truth["objects"] for truth in truths)


def test_an_image_is_never_overwritten_and_an_invalid_template_is_refused(tmp_path):
    stop = threading.Event()
    with pytest.raises(ConfigurationError, match="exists already"):
        write_pictures(tmp_path, rotated_pictures(picture()), name="a.jpg", fps=0, stop=stop, truth_file=tmp_path / "t")
    with pytest.raises(ConfigurationError, match="--name"):
        write_pictures(tmp_path, scene_pictures(1, 1), name="{x}", fps=0, stop=stop, truth_file=tmp_path / "t")


@pytest.mark.medium
def test_the_command_fills_a_folder_for_each_camera(tmp_path):
    (tmp_path / "original_image.jpg").write_bytes(picture())
    given = ["--cameras", "2", "--fps", "0", "--pattern", "rotate", "--image", "original_image.jpg"]
    ended = run("simulate", "folder", *given, cwd=tmp_path)
    assert (ended.status, ended.stderr) == (0, "20 images of 2 cameras written to simulated.\n")
    assert len(list((tmp_path / "simulated" / "cam2").iterdir())) == 10
    assert run("simulate", "folder", "--pattern", "rotate", cwd=tmp_path).status == 2
