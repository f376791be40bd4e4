"""The arithmetic from outputs to boxes, against cases worked out by hand."""

import numpy as np
import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.vision.decoders import Candidates, decode_outputs, select_boxes, yolox_grid

SIZE = (64, 32)
CELLS = 8 * 4 + 4 * 2 + 2 * 1


def yolox_output(classes: int = 2) -> np.ndarray:
    return np.zeros((1, CELLS, 5 + classes), np.float32)


def test_yolox_boxes_are_cells_times_strides():
    output = yolox_output()
    # Row 32 + 5 is in the map of stride 16 (4 columns): row 1, column 1.
    output[0, 37] = [0.5, 0.25, np.log(2), np.log(1.5), 0.9, 0.2, 0.8]
    found = decode_outputs("yolox", [output], SIZE, 0.5)
    width, height = 32, 24
    np.testing.assert_allclose(found.boxes_xyxy, [[24 - width / 2, 20 - height / 2, 24 + width / 2, 20 + height / 2]])
    np.testing.assert_allclose(found.scores, [0.72], rtol=1e-6)
    assert found.class_ids.tolist() == [1]


def test_the_grid_of_yolox_goes_by_strides_rows_and_columns():
    grid = yolox_grid(*SIZE)
    assert grid.shape == (CELLS, 3)
    assert grid[[0, 1, 8, 32, 37, 41]].tolist() == [[0, 0, 8], [1, 0, 8], [0, 1, 8], [0, 0, 16], [1, 1, 16], [1, 0, 32]]


def test_yolov4_boxes_are_fractions_of_the_input():
    rows = np.array([[[0.5, 0.25, 0.25, 0.5, 0.8, 0.9, 0.1], [0, 0, 1, 1, 0.1, 1, 1]]], np.float32)
    found = decode_outputs("yolov4", [rows], SIZE, 0.5)
    np.testing.assert_allclose(found.boxes_xyxy, [[24, 0, 40, 16]])
    np.testing.assert_allclose(found.scores, [0.72], rtol=1e-6)
    assert found.class_ids.tolist() == [0]


def test_yolov4_heads_may_come_apart_and_without_a_batch():
    heads = [np.array([[0.5, 0.5, 0.1, 0.1, 1, c == 0, c == 1]], np.float32) for c in (0, 1)]
    assert decode_outputs("yolov4", heads, SIZE, 0.5).class_ids.tolist() == [0, 1]


def test_yolov4_may_give_corners_and_scores():
    corners = np.array([[[[0.25, 0.5, 0.5, 1.0]], [[0, 0, 1, 1]]]], np.float32)
    scores = np.array([[[0.1, 0.7], [0.2, 0.3]]], np.float32)
    found = decode_outputs("yolov4", [corners, scores], SIZE, 0.5)
    np.testing.assert_allclose(found.boxes_xyxy, [[16, 16, 32, 32]])
    assert found.class_ids.tolist() == [1]


@pytest.mark.parametrize("objectness_and_class", [[0.5, 1.0], [1.0, 0.5]])
@pytest.mark.parametrize("decoder", ["yolox", "yolov4"])
def test_the_threshold_itself_is_not_enough(decoder, objectness_and_class):
    output = yolox_output()
    output[0, 3, 4:6] = objectness_and_class
    assert len(decode_outputs(decoder, [output], SIZE, 0.5).scores) == 0
    assert len(decode_outputs(decoder, [output], SIZE, np.nextafter(np.float32(0.5), np.float32(0))).scores) == 1


@pytest.mark.parametrize("decoder", ["yolox", "yolov4"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite_blames_the_model(decoder, value):
    output = yolox_output()
    output[0, 0, 5] = value
    with pytest.raises(PermanentError, match="NaN or infinity"):
        decode_outputs(decoder, [output], SIZE, 0.5)


@pytest.mark.parametrize(
    ("decoder", "shapes"),
    [
        ("yolox", [(1, CELLS - 1, 7)]),
        ("yolox", [(1, CELLS, 5)]),
        ("yolox", [(1, CELLS, 7), (1, CELLS, 7)]),
        ("yolov4", [(1, 10, 5)]),
        ("yolov4", [(1, 10, 7), (1, 10, 8)]),
        ("yolov4", [(1, 3, 8, 8, 7)]),
        ("yolov4", [(1, 10, 1, 4), (1, 9, 7)]),
    ],
)
def test_an_output_of_another_layout_blames_the_setting(decoder, shapes):
    with pytest.raises(PermanentError, match="IMGPIPELINE_MODEL_DECODER"):
        decode_outputs(decoder, [np.zeros(shape, np.float32) for shape in shapes], SIZE, 0.5)


def candidates(boxes, scores, class_ids) -> Candidates:
    return Candidates(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(class_ids, np.int64)
    )


def test_of_two_boxes_that_overlap_the_better_one_stays():
    both = candidates([[0, 0, 10, 10], [0, 0, 10, 9]], [0.6, 0.9], [0, 0])
    assert select_boxes("yolox", both, 0.4, per_class=False).tolist() == [1]


def test_an_overlap_of_exactly_the_threshold_is_allowed():
    both = candidates([[0, 0, 10, 10], [0, 0, 10, 5]], [0.9, 0.6], [0, 0])
    assert select_boxes("yolox", both, 0.5, per_class=False).tolist() == [0, 1]
    assert select_boxes("yolox", both, 0.49, per_class=False).tolist() == [0]


def test_classes_compete_together_unless_told_otherwise():
    both = candidates([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.6], [0, 1])
    assert select_boxes("yolox", both, 0.4, per_class=False).tolist() == [0]
    assert select_boxes("yolox", both, 0.4, per_class=True).tolist() == [0, 1]


def test_a_dropped_box_drops_no_other():
    chain = candidates([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], [0.9, 0.8, 0.7], [0, 0, 0])
    assert select_boxes("yolox", chain, 0.4, per_class=False).tolist() == [0, 2]


def test_nothing_gives_nothing():
    assert select_boxes("yolox", candidates([], [], []), 0.4, per_class=True).tolist() == []
