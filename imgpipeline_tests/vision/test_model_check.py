"""A real network is used in every plausible way, and the right one is recommended."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.adding import interpret
from imgpipeline.vision.agreement import match_boxes
from imgpipeline.vision.detector import load_detector
from imgpipeline_tests.vision.rewired import rewire
from imgpipeline_tests.vision.tiny_networks import write_network


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
@pytest.mark.parametrize("picture", ["dog", "person"])
@pytest.mark.parametrize(
    ("layout", "resize", "channels", "scale"),
    [
        ("yolox", "letterbox", "BGR", 1),
        ("yolox-decoded", "letterbox", "BGR", 1),
        ("yolov8", "letterbox-centred", "RGB", 1 / 255),
    ],
    ids=["yolox", "decoded", "yolov8"],
)
def test_the_way_in_which_a_network_was_trained_is_recommended(
    layout, resize, channels, scale, picture, yolox, shared_data, tmp_path
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
