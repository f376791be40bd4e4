"""Converted networks give the results of OpenCV 4's own Darknet importer, on random weights of the real layout."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from imgpipeline.vision.backends import installed_backends
from imgpipeline.vision.darknet import convert_darknet
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.preprocess import make_blob
from imgpipeline_tests.vision.darknet.conftest import OracleResult
from imgpipeline_tests.vision.darknet.random_weights import random_weights
from imgpipeline_tests.vision.darknet.small_networks import EVERY_LAYER

pytestmark = pytest.mark.servers

RAW_TOLERANCE = 1e-4
BOX_TOLERANCE_PX = 1.0
SCORE_TOLERANCE = 1e-3
CONFIDENCE, NMS = 0.3, 0.4
OPENCV_HIDES_BELOW = 0.2


def test_yolov4_tiny_equals_opencv4(oracle, shared_data, tmp_path):
    cfg = shared_data / "models" / "yolov4-tiny.cfg"
    weights = random_weights(cfg.read_text(encoding="utf-8"), seed=0)
    assert len(weights) == 24_251_276, "the size of the published weights file"
    check_against_oracle(cfg, weights, oracle, tmp_path, ["onnxruntime"], range(80))


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4])
def test_every_layer_type_equals_opencv4_on_every_backend(seed, oracle, tmp_path):
    cfg = tmp_path / "every-layer.cfg"
    cfg.write_text(EVERY_LAYER, encoding="utf-8")
    weights = random_weights(EVERY_LAYER, seed)
    check_against_oracle(cfg, weights, oracle, tmp_path, installed_backends(), range(3))


def check_against_oracle(cfg: Path, weights: bytes, oracle, folder: Path, backends, classes) -> None:
    weights_path, picture, out = folder / "model.weights", folder / "picture.png", folder / "model.onnx"
    weights_path.write_bytes(weights)
    pixels = random_picture(seed=len(weights))
    cv2.imwrite(str(picture), pixels)
    expected = oracle(cfg, weights_path, picture, confidence=CONFIDENCE, nms=NMS)
    assert expected.candidates > len(expected.scores) > 0, "the case is degenerate: nothing found or nothing dropped"
    convert_darknet(cfg, weights_path, out)
    for backend in backends:
        detector = load_detector(
            str(out), backend=backend, decoder="yolov4", labels=[str(c) for c in classes],
            confidence_threshold=CONFIDENCE, nms_threshold=NMS,
        )  # fmt: skip
        check_raw_outputs(detector, pixels, expected)
        check_detections(detector, pixels, expected)


def check_raw_outputs(detector: Detector, pixels: np.ndarray, expected: OracleResult) -> None:
    (output,) = detector.backend.infer(make_blob(pixels, detector.spec)[0])
    rows = output[0]
    assert rows.shape == expected.raw.shape
    np.testing.assert_allclose(rows[:, :5], expected.raw[:, :5], rtol=0, atol=RAW_TOLERANCE)
    scores, shown = rows[:, 4:5] * rows[:, 5:], expected.raw[:, 5:] > 0
    np.testing.assert_allclose(scores[shown], expected.raw[:, 5:][shown], rtol=0, atol=RAW_TOLERANCE)
    assert scores[~shown].max() <= OPENCV_HIDES_BELOW + RAW_TOLERANCE
    assert shown.any()
    assert rows[:, :5].std(axis=0).min() > 1e-3, "every column varies from box to box"


def check_detections(detector: Detector, pixels: np.ndarray, expected: OracleResult) -> None:
    found = detector.detect(pixels)
    assert [d.class_id for d in found] == expected.class_ids.tolist()
    np.testing.assert_allclose([d.confidence for d in found], expected.scores, rtol=0, atol=SCORE_TOLERANCE)
    height, width = pixels.shape[:2]
    corner = np.clip(expected.boxes_xywh[:, :2], 0, (width, height))
    far = np.clip(expected.boxes_xywh[:, :2] + expected.boxes_xywh[:, 2:], 0, (width, height))
    boxes = np.concatenate([corner, far - corner], axis=1)
    np.testing.assert_allclose([d.box_xywh for d in found], boxes, rtol=0, atol=BOX_TOLERANCE_PX)


def random_picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
