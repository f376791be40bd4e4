"""`imgpipeline models compare`: two models on the same images, without a store."""

from pathlib import Path

import cv2
import pytest

from imgpipeline.sources.simulator import Scene
from imgpipeline_tests.cli.command import run


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streets")
    for number in range(4):
        assert cv2.imwrite(str(folder / f"{number}.jpg"), Scene(3, frames=60).frame(10 * number)[0])
    return folder


@pytest.mark.medium
def test_a_lower_threshold_finds_all_boxes_of_the_reference_and_more(streets: Path, tmp_path: Path):
    ended = run("models", "compare", "demo", "demo@0.01", "--images", streets, "--json", cwd=tmp_path)
    assert ended.status == 0
    found = ended.json()
    assert (found["a"]["name"], found["b"]["name"]) == ("demo", "demo@0.01")
    assert found["a"]["precision"] == found["b"]["precision"] == "fp32"
    assert found["a"]["sha256"] == found["b"]["sha256"]
    assert found["b"]["confidence_threshold"] == 0.01
    total = found["total"]
    assert (found["images"], total["recall"], total["matched"]) == (4, 1, total["reference"])
    assert total["found"] > total["reference"] > 0
    assert total["precision"] == pytest.approx(total["matched"] / total["found"])
    assert sum(label["found"] for label in found["labels"].values()) == total["found"]


@pytest.mark.medium
def test_a_file_that_is_no_image_is_named_and_the_others_are_compared(streets: Path, tmp_path: Path):
    torn = tmp_path / "torn.jpg"
    torn.write_bytes((streets / "0.jpg").read_bytes()[:2000])
    ended = run("models", "compare", "demo", "demo", "--images", streets / "1.jpg", "--images", torn, cwd=tmp_path)
    assert ended.status == 0
    assert "torn.jpg: " in ended.stderr
    assert "1 image" in ended.stdout
    assert "Confidences of matched boxes differ by 0.0000 in the mean" in ended.stderr


def test_a_folder_without_images_is_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    ended = run("models", "compare", "demo", "demo", "--images", tmp_path / "empty", cwd=tmp_path)
    assert ended.status == 1
    assert "There are no images in" in ended.stderr
