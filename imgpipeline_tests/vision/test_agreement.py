"""The agreement of two detectors is what plain counting says."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.detection import Detection
from imgpipeline.vision.agreement import Score, match_boxes, measure_agreement

CAR = Detection("car", 2, 0.9, (10.0, 10.0, 100.0, 50.0))
DOG = Detection("dog", 16, 0.8, (200.0, 10.0, 40.0, 40.0))


def moved(found: Detection, dx: float, confidence: float | None = None) -> Detection:
    x, y, w, h = found.box_xywh or (0, 0, 0, 0)
    return replace(found, box_xywh=(x + dx, y, w, h), confidence=confidence or found.confidence)


def test_the_same_boxes_agree_fully():
    found = measure_agreement([([CAR, DOG], [CAR, DOG]), ([], [])])
    assert (found.images, found.total) == (2, Score(2, 2, 2))
    assert (found.total.precision, found.total.recall, found.total.f1) == (1, 1, 1)
    assert (found.mean_score_difference, found.largest_score_difference, found.mean_iou) == (0, 0, 1)


def test_missing_additional_and_moved_boxes_are_counted_by_label():
    """The car moves by a quarter of its width: IoU 0.6. The dog is missed in one image and invented in another."""
    aside = moved(CAR, 25, 0.6)
    found = measure_agreement([([CAR, DOG], [aside]), ([CAR], [CAR, DOG])])
    assert found.labels == (("car", Score(2, 2, 2)), ("dog", Score(1, 1, 0)))
    assert found.total == Score(3, 3, 2)
    assert found.total.f1 == pytest.approx(2 / 3)
    assert found.mean_score_difference == pytest.approx(0.15)
    assert found.largest_score_difference == pytest.approx(0.3)
    assert found.mean_iou == pytest.approx(0.8)


def test_a_different_label_or_too_little_overlap_does_not_match():
    assert match_boxes([CAR], [replace(CAR, label="truck")]) == []
    assert match_boxes([CAR], [moved(CAR, 34)]) == []
    assert match_boxes([replace(CAR, box_xywh=None)], [replace(CAR, box_xywh=None)]) == []


def test_of_two_boxes_on_one_object_the_nearer_one_matches():
    near, far = moved(CAR, 2), moved(CAR, 20)
    assert [(a, b) for _, _, a, b, _ in match_boxes([CAR], [far, near])] == [(0, 1)]


def test_images_in_which_neither_found_anything_agree():
    found = measure_agreement([([], [])])
    assert (found.total.f1, found.labels, found.mean_score_difference, found.mean_iou) == (1, (), None, None)


def test_the_cautious_f1_comes_closer_to_f1_the_more_boxes_there_are():
    few, many = Score(50, 50, 49), Score(5000, 5000, 4900)
    assert few.f1 == many.f1 == pytest.approx(0.98)
    assert few.cautious_f1 == pytest.approx(0.98 - (0.98 * 0.02 / 50) ** 0.5)
    assert few.cautious_f1 < many.cautious_f1 < many.f1
    assert Score(3, 3, 3).cautious_f1 == Score(0, 0, 0).cautious_f1 == 1


BOXES = st.lists(
    st.builds(
        lambda label, x, y: Detection(label, 0, 0.5, (float(x), float(y), 10.0, 10.0)),
        st.sampled_from(["car", "dog"]), st.integers(0, 20), st.integers(0, 20),
    ),
    max_size=6,
)  # fmt: skip


@given(BOXES, BOXES)
def test_pairs_are_one_to_one_and_none_is_left_out(ours, others):
    pairs = match_boxes(ours, others)
    taken_a, taken_b = [pair[2] for pair in pairs], [pair[3] for pair in pairs]
    assert len(set(taken_a)) == len(taken_a)
    assert len(set(taken_b)) == len(taken_b)
    rest = [
        [box for i, box in enumerate(boxes) if i not in taken] for boxes, taken in ((ours, taken_a), (others, taken_b))
    ]
    assert match_boxes(*rest) == []
