"""`imgpipeline models`: the registered models, and your own ONNX files and Darknet networks."""

import hashlib
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgpipeline_tests.cli.command import REPOSITORY, run
from imgpipeline_tests.detect.conftest import jpeg
from imgpipeline_tests.vision.tiny_networks import write_network

DEMO = REPOSITORY / "models" / "demo.onnx"


def test_the_list_says_which_models_are_present(tmp_path):
    env = {"IMGPIPELINE_MODEL_DIR": str(tmp_path)}
    models = {model["name"]: model for model in run("models", "list", "--json", env=env, cwd=tmp_path).json()}
    assert models["demo"]["present"]
    assert models["demo"]["in_use"]
    assert not models["yolox-nano"]["present"]
    assert models["yolov4-tiny"]["labels"] == 80
    pulled = run("models", "pull", "demo", "--json", env=env, cwd=tmp_path)
    assert (pulled.status, Path(pulled.json()["path"]).is_file()) == (0, True), "shipped, so nothing is downloaded"
    assert "yolox-nano" in run("models", "list", env=env, cwd=tmp_path).stdout


def own_row(env: dict[str, str], folder: Path) -> dict[str, Any]:
    rows = run("models", "list", "--json", env=env, cwd=folder).json()
    assert [row["name"] for row in rows if row["in_use"]] == [env["IMGPIPELINE_MODEL"]]
    return rows[-1]


def test_a_model_that_is_configured_by_path_is_listed_with_decoder_and_labels(tmp_path):
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
def test_a_problem_of_the_configured_model_is_in_its_row(settings, problem, tmp_path):
    shutil.copyfile(DEMO, tmp_path / "demo-copy.onnx")
    row = own_row(settings, tmp_path)
    assert row["present"] == ("copy" in settings["IMGPIPELINE_MODEL"])
    assert problem in row["problem"]


@pytest.mark.medium
def test_the_tuning_is_saved_and_shown(tmp_path):
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


def test_a_darknet_network_becomes_onnx(tmp_path):
    (tmp_path / "net.cfg").write_text(
        "[net]\nwidth=32\nheight=32\nchannels=3\n"
        "[convolutional]\nfilters=18\nsize=1\nstride=1\npad=1\nactivation=linear\n"
        "[yolo]\nmask=0,1,2\nanchors=1,1, 2,2, 3,3\nclasses=1\nnum=3\n"
    )
    numbers = 18 + 18 * 3
    (tmp_path / "net.weights").write_bytes(struct.pack("<iiiq", 0, 2, 0, 0) + bytes(4 * numbers))
    ended = run("models", "convert", "net.cfg", "net.weights", "out/net.onnx", "--json", cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert ended.json()["sha256"] == hashlib.sha256((tmp_path / "out" / "net.onnx").read_bytes()).hexdigest()


def test_an_unsupported_network_is_one_message(tmp_path):
    (tmp_path / "net.cfg").write_text("nonsense")
    (tmp_path / "net.weights").write_bytes(b"")
    ended = run("models", "convert", "net.cfg", "net.weights", "net.onnx", cwd=tmp_path)
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: ")
    assert not (tmp_path / "net.onnx").exists()


@pytest.fixture
def site_model(tmp_path: Path) -> Path:
    boxes = np.random.default_rng(1).uniform(0, 1, (1, 7, 42)).astype(np.float32)
    metadata = {"names": "['car', 'van', 'bus']", "license": "AGPL-3.0"}
    return write_network(tmp_path / "site.onnx", {"output0": boxes}, metadata=metadata)


@pytest.mark.medium
def test_an_added_model_is_listed_with_its_licence_and_used_by_its_name(site_model, tmp_path):
    env = {"IMGPIPELINE_MODEL_DIR": str(tmp_path / "models"), "IMGPIPELINE_MODEL": "site"}
    added = run("models", "add", site_model, "--name", "site", env=env, cwd=tmp_path)
    assert added.status == 0
    assert "Layout yolov8: one output [1, 7, 42]" in added.stderr
    assert "3 labels: car, van, bus. Licence: AGPL-3.0." in added.stderr
    (row,) = (row for row in run("models", "list", "--json", env=env, cwd=tmp_path).json() if row["in_use"])
    assert (row["name"], row["present"], row["licence"], row["labels"]) == ("site", True, "AGPL-3.0", 3)
    with (tmp_path / "models" / "site.onnx").open("ab") as file:
        file.write(b"x")
    (row,) = (row for row in run("models", "list", "--json", env=env, cwd=tmp_path).json() if row["in_use"])
    assert (row["present"], "is damaged: its sha256 is" in row["problem"]) == (True, True)
    assert row["summary"] == row["problem"]
    (tmp_path / "models" / "site.toml").write_text('licence = "MIT"\n')
    (row,) = (row for row in run("models", "list", "--json", env=env, cwd=tmp_path).json() if row["in_use"])
    assert "files: Field required" in row["problem"]


@pytest.mark.medium
def test_the_check_draws_each_interpretation_and_names_the_command_that_adds_it(site_model, tmp_path):
    (tmp_path / "gate.jpg").write_bytes(jpeg())
    ended = run("models", "check", site_model, tmp_path / "gate.jpg", "--limit", "3", "--json", cwd=tmp_path)
    found = ended.json()
    assert found["command"] == f"imgpipeline models add {site_model} --name site --decoder yolov8"
    assert len(found["interpretations"]) == 3
    for one in found["interpretations"]:
        assert (tmp_path / one["drawn"]).stat().st_size > 1000
    shown = run("models", "check", site_model, tmp_path / "gate.jpg", "--draw", "drawn", cwd=tmp_path)
    assert shown.status == 0
    assert "Recommended: yolov8" in shown.stderr
    assert len(list((tmp_path / "drawn").iterdir())) == 6
