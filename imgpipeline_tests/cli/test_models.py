"""Models are listed, pulled, converted and measured by command."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from imgpipeline_tests.cli.command import REPOSITORY, run

DEMO = REPOSITORY / "models" / "demo.onnx"


def test_the_list_says_which_models_are_present(tmp_path: Path):
    env = {"IMGPIPELINE_MODEL_DIR": str(tmp_path)}
    models = {model["name"]: model for model in run("models", "list", "--json", env=env, cwd=tmp_path).json()}
    assert models["demo"]["present"]
    assert models["demo"]["in_use"]
    assert not models["yolox-nano"]["present"]
    assert models["yolov4-tiny"]["labels"] == 80
    assert "yolox-nano" in run("models", "list", env=env, cwd=tmp_path).stdout


def own_row(env: dict[str, str], folder: Path) -> dict[str, Any]:
    rows = run("models", "list", "--json", env=env, cwd=folder).json()
    assert [row["name"] for row in rows if row["in_use"]] == [env["IMGPIPELINE_MODEL"]]
    return rows[-1]


def test_a_model_that_is_configured_by_path_is_listed_with_decoder_and_labels(tmp_path: Path):
    model, labels = tmp_path / "site.onnx", tmp_path / "labels.txt"
    shutil.copyfile(DEMO, model)
    labels.write_text("person\nbicycle\ncar\ndog\n")
    env = {
        "IMGPIPELINE_MODEL": str(model),
        "IMGPIPELINE_MODEL_DECODER": "yolox",
        "IMGPIPELINE_MODEL_LABELS": str(labels),
    }
    row = own_row(env, tmp_path)
    assert (row["present"], row["decoder"], row["labels"], row["input"]) == (True, "yolox", 4, "416x416")
    assert (row["labels_file"], row["path"], row["problem"]) == (str(labels), str(model), None)
    table = run("models", "list", env=env, cwd=tmp_path)
    assert (table.status, "site.onnx" in table.stdout) == (0, True)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"IMGPIPELINE_MODEL": "nowhere.onnx", "IMGPIPELINE_MODEL_DECODER": "yolox"}, "no such file"),
        ({"IMGPIPELINE_MODEL": "demo-copy.onnx"}, "set IMGPIPELINE_MODEL_LABELS"),
        ({"IMGPIPELINE_MODEL": "demo-copy.onnx", "IMGPIPELINE_MODEL_DECODER": "yolox"}, "has 4 classes"),
        ({"IMGPIPELINE_MODEL": "yolox-nan"}, "no model is registered under that name"),
    ],
    ids=["no file", "no labels", "wrong labels", "misspelt name"],
)
def test_a_problem_of_the_configured_model_is_in_its_row(settings: dict[str, str], problem: str, tmp_path: Path):
    shutil.copyfile(DEMO, tmp_path / "demo-copy.onnx")
    row = own_row(settings, tmp_path)
    assert row["present"] == ("copy" in settings["IMGPIPELINE_MODEL"])
    assert problem in row["problem"]


def test_a_shipped_model_needs_no_download(tmp_path: Path):
    ended = run("models", "pull", "demo", "--json", cwd=tmp_path)
    assert ended.status == 0
    assert Path(ended.json()["path"]).is_file()


def test_an_unregistered_model_is_named(tmp_path: Path):
    ended = run("models", "pull", "nonsense", cwd=tmp_path)
    assert ended.status == 2
    assert "yolox-nano" in ended.stderr


@pytest.mark.medium
def test_the_tuning_is_saved_and_shown(tmp_path: Path):
    env = {"IMGPIPELINE_MODEL_DIR": str(tmp_path / "models")}
    ended = run("models", "tune", "--seconds", "0.01", "--json", env=env, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    found = ended.json()
    assert Path(found["path"]).is_file()
    assert found["model"] == "demo"
    assert found["best"] in found["rows"]
    assert found["best"]["images_per_s"] == max(
        row["images_per_s"] for row in found["rows"] if row["workers"] == found["best"]["workers"]
    )
