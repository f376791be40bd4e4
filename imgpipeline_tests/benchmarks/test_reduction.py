"""Boxes of two ways of decoding are paired by label and overlap, each once."""

from benchmarks.reduction import match
from imgpipeline.contracts.detection import Detection


def box(x: float, label: str = "car", confidence: float = 0.9) -> Detection:
    return Detection(label, 0, confidence, (x, 0.0, 100.0, 100.0))


def test_boxes_that_overlap_enough_are_paired_the_closest_first() -> None:
    full, reduced = [box(0), box(30)], [box(29), box(2)]
    assert [(a, b) for a, b, _ in match(full, reduced)] == [(full[1], reduced[0]), (full[0], reduced[1])]


def test_another_label_and_too_little_overlap_are_no_match() -> None:
    assert match([box(0)], [box(0, "bus")]) == []
    assert match([box(0)], [box(40)]) == []  # IoU 60/140
    [(_, _, iou)] = match([box(0)], [box(30)])  # IoU 70/130
    assert round(iou, 3) == 0.538


def test_each_box_is_paired_once() -> None:
    assert len(match([box(0)], [box(1), box(2)])) == 1
