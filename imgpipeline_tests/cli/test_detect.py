"""`imgpipeline detect`: images of a folder or a bucket, without Kafka and without the ledger."""

from pathlib import Path

import pytest

from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.image_detector import ImageDetector
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.detect.conftest import jpeg
from imgpipeline_tests.servers.s3_server import S3Bucket


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "B.JPG", "below/c.jpeg", ".hidden.jpg", "notes.txt")):
        (folder / name).write_bytes(jpeg(number=number + 5))
    return folder


def test_row_1_14_the_images_of_a_folder_are_detected_and_nothing_is_stored(pictures: Path, tmp_path: Path):
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


def test_row_1_14_label_counts_are_shown_and_a_file_that_cannot_be_read_is_named(pictures: Path, tmp_path: Path):
    (pictures / "torn.jpg").write_bytes(jpeg()[:2000])
    ended = run("detect", pictures / "a.jpg", pictures / "torn.jpg", cwd=tmp_path)
    assert ended.status == 1
    assert "detections" in ended.stdout
    assert "torn.jpg: " in ended.stderr
    assert "1 image processed, 1 could not be read. Nothing was stored." in ended.stderr


def test_row_1_14_images_of_a_bucket_up_to_a_limit(bucket: S3Bucket, tmp_path: Path):
    env = {**bucket.environment(), "IMGPIPELINE_STORE_URL": f"{bucket.url}/site"}
    settings = load_settings(
        store_url=bucket.url,
        s3_endpoint=bucket.endpoint,
        s3_access_key_id=bucket.access_key_id,
        s3_secret_access_key=bucket.secret_access_key,
    )
    store = open_store(settings)
    for number in range(4):
        store.put(f"captchas/{number}.png", jpeg(number=number))
    ended = run("detect", f"{bucket.url}/captchas", "--limit", "3", "--json", env=env, cwd=tmp_path)
    assert [one["image"].rpartition("/")[2] for one in ended.json()] == ["0.png", "1.png", "2.png"]
    assert [info.key for info in store.list_objects("site")] == []


def test_a_location_without_images_is_named(tmp_path: Path):
    ended = run("detect", tmp_path / "nowhere", cwd=tmp_path)
    assert ended.status == 1
    assert "nowhere" in ended.stderr
