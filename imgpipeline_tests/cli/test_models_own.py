"""Your own ONNX files are added and checked, and Darknet networks converted."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from imgpipeline_tests.cli.command import REPOSITORY, run
from imgpipeline_tests.detect.conftest import jpeg
from imgpipeline_tests.vision.tiny_networks import write_network

DEMO = REPOSITORY / "models" / "demo.onnx"


def test_a_darknet_network_becomes_onnx(tmp_path: Path):
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


def test_an_unsupported_network_is_one_message(tmp_path: Path):
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
def test_an_added_model_is_listed_with_its_licence_and_used_by_its_name(site_model: Path, tmp_path: Path):
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
    assert "files is missing" in row["problem"]


@pytest.mark.medium
def test_the_check_draws_each_interpretation_and_names_the_command_that_adds_it(site_model: Path, tmp_path: Path):
    (tmp_path / "gate.jpg").write_bytes(jpeg())
    ended = run("models", "check", site_model, tmp_path / "gate.jpg", "--top", "3", "--json", cwd=tmp_path)
    found = ended.json()
    assert found["command"] == f"imgpipeline models add {site_model} --name site --decoder yolov8"
    assert len(found["interpretations"]) == 3
    for one in found["interpretations"]:
        assert (tmp_path / one["drawn"]).stat().st_size > 1000
    shown = run("models", "check", site_model, tmp_path / "gate.jpg", "--draw", "drawn", cwd=tmp_path)
    assert shown.status == 0
    assert "Recommended: yolov8" in shown.stderr
    assert len(list((tmp_path / "drawn").iterdir())) == 6
