"""A user's own models are added with size and hash, found by name, and refused if their entry is incomplete.

A real network is used in every plausible way, and the right one is recommended.
"""

import dataclasses
import hashlib
import tomllib
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.settings import load_settings
from imgpipeline.vision.adding import Wishes, add_model, entry_text, interpret
from imgpipeline.vision.agreement import match_boxes
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.detector import load_detector
from imgpipeline.vision.model_files import pull_model
from imgpipeline.vision.registry import find_model, list_models, own_spec, refused_entries, registered_model, spec_of
from imgpipeline_tests.examples import examples
from imgpipeline_tests.vision.pictures import detailed_picture
from imgpipeline_tests.vision.rewired import rewire
from imgpipeline_tests.vision.tiny_networks import write_network

SIZE = (64, 32)


@pytest.fixture
def file(tmp_path) -> Path:
    """Four columns of a yolov8 layout in the file of a network with three classes."""
    rng = np.random.default_rng(1)
    boxes = np.concatenate([rng.uniform(5, 25, (4, 42)), rng.uniform(0, 1, (3, 42))]).astype(np.float32)[None]
    metadata = {"names": "{0: 'car', 1: 'van', 2: 'bus'}", "license": "AGPL-3.0"}
    return write_network(tmp_path / "best.onnx", {"output0": boxes}, size=SIZE, metadata=metadata)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "models"


def add(file: Path, folder: Path, name: str = "yard", *, replace_it: bool = False, **wishes: object):
    return add_model(file, name, Wishes(**wishes), model_dir=folder, replace_it=replace_it)


def test_an_added_model_is_found_by_its_name_and_finds_what_its_file_finds(file, folder):
    add(file, folder)
    spec = find_model("yard", model_dir=folder)
    assert (spec.decoder, spec.labels, spec.licence) == ("yolov8", ("car", "van", "bus"), "AGPL-3.0")
    assert spec.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    picture = detailed_picture()
    file.rename(file.with_name("moved.onnx"))
    found = load_detector("yard", model_dir=folder).detect(picture)
    assert found == load_detector(str(file.with_name("moved.onnx"))).detect(picture) != []
    assert load_configured_detector(load_settings(model="yard", model_dir=folder)).model_name == "yard"


def test_added_models_are_listed_after_the_projects(file, folder):
    add(file, folder, "b")
    add(file, folder, "a")
    assert [spec.name for spec in list_models(folder)][-2:] == ["a", "b"]
    assert list_models(folder)[0].name == "demo"


def test_what_the_user_says_counts_more_than_the_file(file, folder, tmp_path):
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    rules = {"resize": "stretch", "channels": "BGR", "scale": 1.0, "mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)}
    add(file, folder, labels=tmp_path / "labels.txt", licence="MIT", summary="the yard", preprocessing=rules)
    spec = registered_model("yard", folder)
    assert (spec.labels, spec.licence, spec.summary) == (("x", "y", "z"), "MIT", "the yard")
    assert {name: getattr(spec.preprocessing, name) for name in rules} == rules


def test_a_model_whose_results_depend_on_the_processor_is_not_added(file, folder):
    model = onnx.load(file)
    model.graph.initializer.append(numpy_helper.from_array(np.full((1, 1, 1, 1), 127, np.int8), "w"))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["w", "one"], ["unused"]))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    onnx.save(model, file)
    with pytest.raises(ConfigurationError, match="results depend on the processor"):
        add(file, folder)
    assert not (folder / "yard.toml").exists()


def test_a_name_is_taken_once_unless_it_is_replaced(file, folder):
    add(file, folder)
    with pytest.raises(ConfigurationError, match="--replace"):
        add(file, folder)
    add(file, folder, replace_it=True, licence="MIT")
    assert registered_model("yard", folder).licence == "MIT"


@pytest.mark.parametrize("name", ["demo", "live", "a/b", "", ".hidden", "yolox@0.3", "x" * 101])
def test_a_name_that_cannot_be_used_is_refused(name, file, folder):
    with pytest.raises(ConfigurationError):
        add(file, folder, name)
    assert not folder.exists()


def test_a_network_that_cannot_work_gets_no_entry(folder, tmp_path):
    values = np.full((1, 7, 42), np.nan, np.float32)
    path = write_network(tmp_path / "nan.onnx", {"output0": values}, size=SIZE)
    with pytest.raises(PermanentError, match="NaN"):
        add(path, folder, labels=["a", "b", "c"])
    assert not folder.exists()


def test_a_file_that_was_changed_later_is_refused(file, folder):
    spec = add(file, folder)
    spec.path.write_bytes(spec.path.read_bytes() + b"\0")
    with pytest.raises(PermanentError, match=r"is damaged.*models add FILE --name yard --replace"):
        load_detector("yard", model_dir=folder)
    spec.path.unlink()
    for use in (find_model, pull_model):
        with pytest.raises(ConfigurationError, match="is missing"):
            use("yard", model_dir=folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size_bytes", None),
        ("sha256", None),
        ("sha256", '"abc"'),
        ("size_bytes", "0"),
        ("licence", None),
        ("decoder", '"yolo9000"'),
        ("std", "[1.0, 0.0, 1.0]"),
        ("name", '"../other.onnx"'),
    ],
    ids=["no size", "no hash", "short hash", "size 0", "no licence", "no such decoder", "std 0", "elsewhere"],
)
def test_an_entry_without_pinned_size_and_hash_or_with_impossible_values_is_refused(field, value, file, folder):
    add(file, folder)
    add(file, folder, "good")
    path = folder / "yard.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{field} =")]
    if value is not None:
        at = lines.index("[[files]]") + 1 if field in ("size_bytes", "sha256", "name") else 1
        lines.insert(at, f"{field} = {value}")
    path.write_text("\n".join(lines))
    assert "yard" not in [spec.name for spec in list_models(folder)]
    assert list(refused_entries(folder)) == ["yard"]
    with pytest.raises(ConfigurationError, match=r"yard\.toml.*is refused"):
        find_model("yard", model_dir=folder)
    assert find_model("good", model_dir=folder).name == "good", "another model still works"


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), min_size=1, max_size=5),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.tuples(*[st.floats(-1e3, 1e3)] * 3),
    st.tuples(*[st.floats(1e-6, 1e3)] * 3),
    st.floats(1e-6, 300),
)
@settings(max_examples=examples(100))
def test_an_entry_that_is_written_is_read_back_as_it_was(labels, licence, mean, std, scale):
    demo = registered_model("demo")
    rules = dataclasses.replace(demo.preprocessing, mean=mean, std=std, scale=scale)
    spec = dataclasses.replace(demo, labels=tuple(labels), licence=licence, preprocessing=rules)
    assert spec_of("demo", tomllib.loads(entry_text(spec)), {}, spec.path.parent) == spec


@given(st.binary(max_size=200))
@settings(max_examples=examples(60))
def test_an_entry_of_any_bytes_is_a_model_or_is_refused(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match="is refused"):
        own_spec("any", {}, folder)


@pytest.fixture
def yolox(shared_data) -> Path:
    return shared_data / "models" / "yolox_nano.onnx"


@pytest.fixture
def dog(shared_data) -> np.ndarray:
    return cv2.imread(str(shared_data / "images" / "dog.jpg"))


@pytest.mark.medium
@pytest.mark.parametrize("layout", ["yolox-decoded", "yolov8"])
def test_a_real_network_finds_the_same_in_another_layout(layout, yolox, dog, tmp_path):
    """Its output rewired, and for yolov8 its input, too; only the place in the letterbox differs there."""
    rewired = load_detector(str(rewire(yolox, tmp_path / "m.onnx", layout)))
    assert rewired.spec.decoder == layout
    expected, found = load_detector(str(yolox)).detect(dog), rewired.detect(dog)
    assert {"dog", "bicycle"} <= {one.label for one in expected}
    assert [one.label for one in found][:2] == [one.label for one in expected][:2]
    least_iou = 0.999 if layout == "yolox-decoded" else 0.8
    pairs = match_boxes(expected[:2], found[:2])
    assert len(pairs) == 2
    assert all(iou > least_iou for *_, iou in pairs)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("layout", "picture", "resize", "channels", "scale"),
    [
        ("yolox", "dog", "letterbox", "BGR", 1),
        ("yolox-decoded", "person", "letterbox", "BGR", 1),
        ("yolov8", "dog", "letterbox-centred", "RGB", 1 / 255),
        ("yolov8", "person", "letterbox-centred", "RGB", 1 / 255),
    ],
)
def test_the_way_in_which_a_network_was_trained_is_recommended(
    layout, picture, resize, channels, scale, yolox, shared_data, tmp_path
):
    path = yolox if layout == "yolox" else rewire(yolox, tmp_path / "m.onnx", layout)
    pixels = cv2.imread(str(shared_data / "images" / f"{picture}.jpg"))
    best, *others = interpret(path, pixels)
    rules = best.preprocessing
    assert (best.layout.decoder, rules.resize, rules.channels, rules.scale) == (layout, resize, channels, scale)
    assert best.is_usual
    assert best.evidence > 1
    assert all(one.evidence < best.evidence / 1.5 for one in others if one.layout.decoder != layout)


def test_of_two_layouts_with_one_shape_the_one_with_plausible_boxes_is_recommended(tmp_path):
    """YOLOv5's pixels and YOLOv4's fractions have the same shape; only the numbers tell them apart. The boxes are
    symmetric, so they are also where they belong in the mirrored image."""
    rows = np.zeros((1, 3 * 42, 6), np.float32)
    rows[0, :3] = [[0.2, 0.4, 0.2, 0.3, 0.9, 1], [0.5, 0.5, 0.2, 0.4, 0.8, 1], [0.8, 0.5, 0.2, 0.5, 0.9, 1]]
    fractions = write_network(tmp_path / "fractions.onnx", {"output": rows})
    pixels = np.zeros((320, 640, 3), np.uint8)
    assert interpret(fractions, pixels, ["car"])[0].layout.decoder == "yolov4"
    rows[..., :4] *= (64, 32, 64, 32)
    in_pixels = write_network(tmp_path / "pixels.onnx", {"output": rows})
    assert interpret(in_pixels, pixels, ["car"])[0].layout.decoder == "yolov5"


def test_a_network_that_finds_nothing_is_read_in_the_usual_way(tmp_path):
    path = write_network(tmp_path / "m.onnx", {"output": np.zeros((1, 42, 6), np.float32)})
    best = interpret(path, np.zeros((320, 640, 3), np.uint8), ["car"])[0]
    assert (best.layout.decoder, best.is_usual, best.evidence, best.detections) == ("yolox", True, 0, ())


def test_a_network_of_no_known_layout_is_refused(tmp_path):
    path = write_network(tmp_path / "m.onnx", {"output": np.zeros((1, 3), np.float32)})
    with pytest.raises(ConfigurationError, match="no known layout"):
        interpret(path, np.zeros((320, 640, 3), np.uint8))
