"""`imgpipeline detect`: images of a folder or a bucket, without Kafka and without the ledger."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from imgpipeline.settings import load_settings
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.image_detector import ImageDetector
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.detect.conftest import jpeg

pytestmark = pytest.mark.medium


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "B.JPG", "below/c.jpeg", ".hidden.jpg", "notes.txt")):
        (folder / name).write_bytes(jpeg(number=number + 5))
    return folder


def test_the_images_of_a_folder_are_detected_and_nothing_is_stored(pictures, tmp_path):
    env = {"IMGPIPELINE_STORE_URL": (tmp_path / "store").as_uri()}
    ended = run("detect", pictures, "--json", env=env, cwd=tmp_path)
    assert ended.status == 0
    found = ended.json()
    assert [Path(one["image"]).name for one in found] == ["B.JPG", "a.jpg", "c.jpeg"]
    settings = load_settings()
    expected = ImageDetector(settings, load_configured_detector(settings)).detect((pictures / "a.jpg").read_bytes())
    assert found[1]["detections"] == [detection.to_json() for detection in expected.detections]
    assert (found[1]["image_width"], found[1]["image_height"]) == (expected.width, expected.height)
    assert found[1]["detections"]
    assert not (tmp_path / "store").exists()


def test_label_counts_are_shown_and_what_cannot_be_read_or_written_is_named(pictures, tmp_path):
    (pictures / "torn.jpg").write_bytes(jpeg()[:2000])
    ended = run("detect", pictures / "a.jpg", pictures / "torn.jpg", cwd=tmp_path)
    assert ended.status == 1
    assert "detections" in ended.stdout
    assert "torn.jpg: " in ended.stderr
    assert "1 image processed, 1 could not be read. Nothing was stored." in ended.stderr
    in_the_way = run("detect", pictures / "a.jpg", "--draw", pictures / "notes.txt", cwd=tmp_path)
    assert (in_the_way.status, "--draw" in in_the_way.stderr) == (1, True)
    missing = run("detect", tmp_path / "nowhere", cwd=tmp_path)
    assert (missing.status, "nowhere" in missing.stderr) == (1, True)


def test_images_of_a_bucket_up_to_a_limit(bucket, tmp_path):
    env = {**bucket.environment(), "IMGPIPELINE_STORE_URL": f"{bucket.url}/site"}
    store = bucket.store()
    for number in range(4):
        store.put(f"captchas/{number}.png", jpeg(number=number))
    ended = run("detect", f"{bucket.url}/captchas", "--limit", "3", "--json", env=env, cwd=tmp_path)
    assert [one["image"].rpartition("/")[2] for one in ended.json()] == ["0.png", "1.png", "2.png"]
    assert bucket.store("site").list().collect() == []


def test_boxes_are_drawn_and_each_detection_is_printed_without_a_broker(pictures, tmp_path):
    ended = run("detect", pictures / "a.jpg", "--draw", "drawn", cwd=tmp_path)
    assert ended.status == 0
    assert (tmp_path / "drawn" / "detected_a.jpg").is_file()
    assert "1 copy with boxes in drawn" in ended.stderr
    (found,) = run("detect", pictures / "a.jpg", "--json", cwd=tmp_path).json()
    assert found["drawn"] is None
    for detection in found["detections"]:
        assert f"{detection['confidence']:.2f}" in ended.stdout
        assert detection["label"] in ended.stdout


def test_a_copy_shows_the_boxes_and_has_the_size_of_its_image(pictures, tmp_path):
    shutil.copy(pictures / "a.jpg", pictures / "below")
    ended = run("detect", pictures, "--draw", tmp_path / "drawn", "--json", cwd=tmp_path)
    copies = {one["image"]: cv2.imread(one["drawn"]) for one in ended.json()}
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "detected_B.jpg", "detected_a.jpg", "detected_a~2.jpg", "detected_c.jpg",
    ]  # fmt: skip
    for one in ended.json():
        copy, plain = copies[one["image"]], cv2.imread(one["image"])
        assert copy.shape == plain.shape
        drawn = np.abs(copy.astype(int) - plain).max(axis=2) > 60
        for detection in one["detections"]:
            left, top, _, height = (round(v) for v in detection["box"])
            edge = drawn[top : top + height, max(0, left - 2) : left + 3].any(axis=1)
            assert edge.mean() > 0.8, "the left edge of the box is drawn"
