"""A detector with integer boxes gives the results of the classic OpenCV consumer."""

import cv2
import numpy as np
import pytest

from imgpipeline.settings import load_settings
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.detector import load_detector
from imgpipeline.vision.image_detector import ImageDetector
from imgpipeline_tests.vision.pictures import detailed_picture, encode
from imgpipeline_tests.vision.tiny_networks import write_network

LABELS = ("car", "dog", "person")
SIZE = (416, 416)


@pytest.fixture(scope="module")
def darknet_outputs() -> np.ndarray:
    """Rows as Darknet's yolo layer returns them; boxes overlap, and some reach outside of the picture."""
    rng = np.random.default_rng(3)
    centres = np.repeat(rng.uniform(0, 1, (40, 2)), 5, axis=0) + rng.normal(0, 0.01, (200, 2))
    sizes = np.repeat(rng.uniform(0.02, 0.6, (40, 2)), 5, axis=0) * rng.uniform(0.9, 1.1, (200, 2))
    rows = np.hstack([centres, sizes, rng.uniform(0.4, 1, (200, 1)), rng.uniform(0.3, 1, (200, 3))])
    return rows.astype(np.float32)[None]


@pytest.fixture(scope="module")
def network(darknet_outputs, tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("classic") / "m.onnx", {"output": darknet_outputs}, size=SIZE)


def classic(rows: np.ndarray, width: int, height: int) -> list[tuple]:
    """Label, score and box [x, y, w, h] of the classic consumer: integers before suppression, all classes compete."""
    boxes, scores, class_ids = [], [], []
    for row in rows[0]:
        class_scores = row[5:] * row[4]  # as OpenCV's Darknet importer does
        class_id = int(np.argmax(class_scores))
        if class_scores[class_id] > 0.5:
            centre_x, centre_y = int(row[0] * width), int(row[1] * height)
            w, h = int(row[2] * width), int(row[3] * height)
            boxes.append([int(centre_x - w / 2), int(centre_y - h / 2), w, h])
            scores.append(float(class_scores[class_id]))
            class_ids.append(class_id)
    return [(LABELS[class_ids[i]], scores[i], boxes[i]) for i in cv2.dnn.NMSBoxes(boxes, scores, 0.5, 0.4)]


def cut_at_the_border(box: list[int], width: int, height: int) -> tuple[float, ...]:
    left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[0] + box[2], width), min(box[1] + box[3], height)
    return left, top, right - left, bottom - top


@pytest.mark.medium
@pytest.mark.parametrize(("width", "height"), [(640, 480), (333, 517)])
def test_integer_boxes_are_those_of_the_classic_recipe(network, darknet_outputs, width, height):
    """The only difference: boxes are cut at the border of the picture, which is a rule of the table `detections`."""
    detector = load_detector(str(network), decoder="yolov4", labels=LABELS, integer_boxes=True)
    found = [(d.label, d.confidence, d.box_xywh) for d in detector.detect(detailed_picture(width, height))]
    expected = classic(darknet_outputs, width, height)
    assert any(box != list(cut_at_the_border(box, width, height)) for _, _, box in expected), "none lies outside"
    assert [label for label, _, _ in found] == [label for label, _, _ in expected]
    assert [score for _, score, _ in found] == pytest.approx([score for _, score, _ in expected], rel=1e-5)
    assert [box for *_, box in found] == [cut_at_the_border(box, width, height) for *_, box in expected]


def test_a_setting_chooses_integer_boxes_and_another_one_decoding_at_full_size(network, tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    image = encode(".jpg", detailed_picture(1920, 1080))
    given = {"model": str(network), "model_decoder": "yolov4", "model_labels": tmp_path / "labels.txt"}

    seen: list[int] = []

    def detected(**options: object):
        settings = load_settings(**given, **options)
        detector = ImageDetector(settings, load_configured_detector(settings))
        return detector.detect(image, decide=lambda picture, _: seen.append(picture.reduction))

    exact, whole, _ = detected(), detected(integer_boxes=True), detected(reduced_decoding=False)
    assert not all(value.is_integer() for d in exact.detections for value in d.box_xywh)
    assert all(value.is_integer() for d in whole.detections for value in d.box_xywh)
    assert seen == [2, 2, 1]
