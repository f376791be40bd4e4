"""A setting becomes a model, or an error that names the setting and what to do."""

import hashlib
import tomllib
from pathlib import Path

import onnx
import pytest

from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.vision import registry
from imgpipeline.vision.registry import find_model, label_sets, list_models, model_folder, registered_model
from imgpipeline.vision.registry import registry_path as find_registry
from imgpipeline_tests.conftest import REPOSITORY


def test_the_registered_models_are_those_of_the_project():
    assert [spec.name for spec in list_models()] == ["demo", "yolox-nano", "yolov4-tiny"]
    for spec in list_models():
        assert all(len(file.sha256) == 64 and file.size_bytes > 0 for file in spec.files)
        assert spec.labels
        assert spec.licence


def test_the_files_of_yolov4_tiny_are_the_published_ones():
    files = {file.name: (file.size_bytes, file.sha256[:8]) for file in registered_model("yolov4-tiny").files}
    assert files == {
        "yolov4-tiny.weights": (24_251_276, "cf9fbfd0"),
        "yolov4-tiny.cfg": (3231, "f858e372"),
        "coco.names": (625, "634a1132"),
    }


def test_the_shipped_model_is_the_registered_one():
    spec = find_model("demo")
    (file,) = spec.files
    content = spec.path.read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size_bytes, file.sha256)
    assert len(content) <= 2_000_000
    assert spec.shipped


def test_the_darknet_labels_are_those_of_coco_names(shared_data):
    names = (shared_data / "models" / "coco.names").read_text(encoding="utf-8").split("\n")
    assert list(label_sets()["coco-darknet"]) == [name for name in names if name]


def test_both_lists_of_coco_have_the_same_80_classes_in_the_same_order():
    own, darknets = label_sets()["coco"], label_sets()["coco-darknet"]
    assert len(own) == len(darknets) == 80
    assert sum(a != b for a, b in zip(own, darknets, strict=True)) == 6


def test_an_unregistered_name_lists_the_registered_ones():
    with pytest.raises(ConfigurationError) as caught:
        find_model("yolo9000")
    assert "IMGPIPELINE_MODEL is 'yolo9000'" in str(caught.value)
    assert "demo, yolox-nano, yolov4-tiny" in str(caught.value)


@pytest.mark.parametrize("name", ["yolox-nano", "yolov4-tiny"])
def test_a_model_that_was_not_pulled_names_the_command(name, tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        find_model(name, model_dir=tmp_path)
    assert caught.value.next_step == f"imgpipeline models pull {name}"
    assert str(tmp_path) in caught.value.message


def test_a_registered_model_keeps_its_decoder():
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_MODEL_DECODER"):
        find_model("demo", "yolov4")


def test_pulled_models_lie_in_the_users_cache_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("IMGPIPELINE_MODEL_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_folder() == tmp_path / ".cache" / "imgpipeline" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert model_folder() == tmp_path / "cache" / "imgpipeline" / "models"
    monkeypatch.setenv("IMGPIPELINE_MODEL_DIR", str(tmp_path / "mine"))
    assert model_folder() == tmp_path / "mine"
    assert model_folder(Path("~/theirs")) == tmp_path / "theirs"


def test_ones_own_model_is_described_by_its_file_and_decoder(small_onnx):
    spec = find_model(str(small_onnx), "yolov4", ["a", "b", "c"])
    assert (spec.name, spec.input_width, spec.input_height) == ("small", 96, 64)
    assert spec.preprocessing.resize == "stretch"
    assert (spec.nms_per_class, spec.shipped, spec.converted, spec.sha256) == (False, False, False, None)


def test_ones_own_yolox_model_has_cocos_labels_and_yoloxs_preprocessing(shared_data):
    spec = find_model(str(shared_data / "models" / "yolox_nano.onnx"), "yolox")
    assert (spec.input_width, spec.input_height, spec.labels[:2]) == (416, 416, ("person", "bicycle"))
    assert (spec.preprocessing.resize, spec.preprocessing.pad_value, spec.nms_per_class) == ("letterbox", 114, True)


def test_labels_may_come_from_a_file(small_onnx, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("cat\n\ncow \nWürfel\n", encoding="utf-8")
    assert find_model(str(small_onnx), "yolov4", path).labels == ("cat", "cow", "Würfel")
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_MODEL_LABELS"):
        find_model(str(small_onnx), "yolov4", tmp_path / "nowhere.txt")


@pytest.mark.parametrize("labels", [None, ["a", "b"]])
def test_labels_that_do_not_fit_the_classes_are_refused(small_onnx, labels):
    with pytest.raises(ConfigurationError, match=r"3 classes, but there are (80|2) labels.*IMGPIPELINE_MODEL_LABELS"):
        find_model(str(small_onnx), "yolov4", labels)


def test_the_decoder_of_a_path_is_detected_unless_a_setting_names_it(small_onnx):
    detected = find_model(str(small_onnx), None, ["a", "b", "c"])
    assert (detected.decoder, detected.preprocessing.resize) == ("yolov4", "stretch")
    assert "imgpipeline models convert" in detected.decoder_reason
    named = find_model(str(small_onnx), "yolov5", ["a", "b", "c"])
    assert (named.decoder, named.decoder_reason) == ("yolov5", "IMGPIPELINE_MODEL_DECODER")


def test_a_path_that_leads_nowhere_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"IMGPIPELINE_MODEL is .*nowhere\.onnx': no such file"):
        find_model(str(tmp_path / "nowhere.onnx"), "yolox")


def test_a_file_that_is_not_onnx_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"this is not a model at all" * 9)
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_MODEL"):
        find_model(str(path), "yolox")


def test_a_model_without_a_fixed_input_size_is_refused(small_onnx, tmp_path):
    model = onnx.load(small_onnx)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, tmp_path / "open.onnx")
    with pytest.raises(ConfigurationError, match="fixed size"):
        find_model(str(tmp_path / "open.onnx"), "yolov4", ["a", "b", "c"])


def test_a_damaged_registry_is_said_plainly(tmp_path, monkeypatch):
    path = tmp_path / "registry.toml"
    monkeypatch.setattr(registry, "registry_path", lambda: path)
    for number, text in enumerate(["[models", "[models.a]\n[labels]\n", ""]):
        path = tmp_path / f"{number}.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(PermanentError, match="list of models"):
            list_models()


def test_the_wheel_carries_registry_and_demo_model():
    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    shipped = wheel["targets"]["wheel"]["force-include"]
    assert shipped["models/registry.toml"] == "imgpipeline/shipped/models/registry.toml"
    assert shipped["models/demo.onnx"] == "imgpipeline/shipped/models/demo.onnx"
    assert find_registry().parent.joinpath("demo.onnx").is_file()
