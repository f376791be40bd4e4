"""Weak detections: what a detector finds below its threshold never changes what it finds above it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.contracts.detection import Detection
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline_tests.examples import examples

PICTURE = np.zeros((416, 416, 3), np.uint8)


class Answers:
    """A backend that answers the same boxes and scores for every picture."""

    name = "answers"

    def __init__(self, outputs: list[np.ndarray]) -> None:
        self.outputs = outputs

    def infer(self, _blob: np.ndarray) -> list[np.ndarray]:
        return self.outputs


@pytest.fixture(scope="module")
def spec():
    return replace(load_detector("demo", threads=1).spec, decoder="yolov4")


def outputs(seed: int, count: int, classes: int) -> list[np.ndarray]:
    """Return corners and scores of boxes that overlap a lot; many scores are equal."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 0.6, (count, 2)), rng.uniform(0.1, 0.4, (count, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    scores = rng.choice(np.linspace(0, 1, 21), (count, classes)).astype(np.float32)
    return [boxes.reshape(1, count, 1, 4), scores.reshape(1, count, classes)]


def overlap(one: Detection, other: Detection) -> float:
    (x, y, w, h), (left, top, width, height) = one.box_xywh, other.box_xywh
    common = max(0.0, min(x + w, left + width) - max(x, left)) * max(0.0, min(y + h, top + height) - max(y, top))
    return common / (w * h + width * height - common)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 80),
    thresholds=st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.sampled_from([0.1, 0.15, 0.3, 0.45, 0.7])),
    nms=st.sampled_from([0.2, 0.4, 0.7]),
    per_class=st.booleans(),
)
@settings(max_examples=examples(100))
def test_keeping_weak_detections_changes_no_strong_one(spec, seed, count, thresholds, nms, per_class):
    threshold, weak_above = thresholds
    answers = Answers(outputs(seed, count, len(spec.labels)))
    detector = Detector(
        spec, "", answers, confidence_threshold=threshold, nms_threshold=nms, nms_per_class=per_class
    )  # fmt: skip
    alone = detector.detect(PICTURE)

    strong, weak = detector.detect_with_weak(PICTURE, weak_above)

    assert strong == alone
    assert all(np.float32(weak_above) < np.float32(each.confidence) <= np.float32(threshold) for each in weak)
    assert [each.confidence for each in weak] == sorted((each.confidence for each in weak), reverse=True)
    rivals = [(one, other) for one in weak for other in strong if not per_class or one.label == other.label]
    assert all(overlap(one, other) <= nms + 1e-3 for one, other in rivals)


def test_a_weak_box_beside_a_strong_one_is_found_and_one_over_it_is_not(spec):
    boxes = np.array([[0, 0, 0.3, 0.3], [0, 0, 0.3, 0.28], [0.5, 0.5, 0.9, 0.9], [0.1, 0.6, 0.3, 0.9]], np.float32)
    scores = np.zeros((4, len(spec.labels)), np.float32)
    scores[:, 0] = 0.9, 0.4, 0.3, 0.1
    detector = Detector(spec, "", Answers([boxes.reshape(1, 4, 1, 4), scores[None]]), confidence_threshold=0.5)
    strong, weak = detector.detect_with_weak(PICTURE, 0.1)
    assert [round(each.confidence, 3) for each in strong] == [0.9]
    assert [round(each.confidence, 3) for each in weak] == [0.3]
