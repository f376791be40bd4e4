"""`models compare` and `models quantize`: models are compared on images, and quantized to 8-bit integers."""

import hashlib
import tomllib
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
def test_an_unreadable_image_is_named_and_the_others_are_compared(streets: Path, tmp_path: Path):
    torn = tmp_path / "torn.jpg"
    torn.write_bytes((streets / "0.jpg").read_bytes()[:2000])
    ended = run("models", "compare", "demo", "demo", "--images", streets / "1.jpg", "--images", torn, cwd=tmp_path)
    assert ended.status == 0
    assert "torn.jpg: " in ended.stderr
    assert "1 image" in ended.stdout
    assert "Confidences of matched boxes differ by 0.0000 on average" in ended.stderr


def test_a_folder_without_images_is_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    ended = run("models", "compare", "demo", "demo", "--images", tmp_path / "empty", cwd=tmp_path)
    assert ended.status == 1
    assert "There are no images in" in ended.stderr


@pytest.fixture(scope="module")
def many_streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streets")
    for number in range(16):
        assert cv2.imwrite(str(folder / f"{number:02d}.jpg"), Scene(3, frames=80).frame(5 * number)[0])
    return folder


@pytest.mark.slow
def test_a_quantized_model_is_registered_listed_used_and_compared(many_streets: Path, tmp_path: Path):
    env = {"IMGPIPELINE_MODEL_DIR": str(tmp_path / "models")}
    made = run(
        "models", "quantize", "demo", "--images", many_streets, "--goal", "0.95", "--json", env=env, cwd=tmp_path
    )
    assert made.status == 0, made.stderr
    found = made.json()
    assert (found["name"], found["model"], found["precision"]) == ("demo-int8", "demo", "int8")
    assert (found["images"], found["calibrated_on"], found["held_out"]["images"]) == (16, 8, 4)
    entry = tomllib.loads((tmp_path / "models" / "demo-int8.toml").read_text())
    sha256 = hashlib.sha256(Path(found["path"]).read_bytes()).hexdigest()
    assert (entry["files"][0]["sha256"], entry["made_of"]["model_sha256"]) == (sha256, found["model_sha256"])

    listed = {row["name"]: row for row in run("models", "list", "--json", env=env, cwd=tmp_path).json()}
    assert listed["demo-int8"]["present"] is True
    assert "quantized to int8 with 16 images" in listed["demo-int8"]["summary"]

    compared = run(
        "models", "compare", "demo", "demo-int8", "--images", many_streets, "--json", env=env, cwd=tmp_path
    ).json()
    assert (compared["b"]["precision"], compared["b"]["sha256"]) == ("int8", sha256)
    assert compared["total"]["f1"] >= 0.9

    again = run("models", "quantize", "demo-int8", "--images", many_streets, env=env, cwd=tmp_path)
    assert again.status == 1
    assert "is already quantized" in again.stderr


@pytest.mark.medium
def test_the_name_of_a_model_of_the_project_is_refused(streets: Path, tmp_path: Path):
    ended = run("models", "quantize", "demo", "--images", streets, "--name", "yolox-nano", cwd=tmp_path)
    assert ended.status == 1
    assert "The project itself has a model 'yolox-nano'" in ended.stderr
