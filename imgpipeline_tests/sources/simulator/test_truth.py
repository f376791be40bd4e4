"""The detections in a simulated picture are compared with its truth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.detection import Detection
from imgpipeline.sources.simulator.truth import LABELS, Truth, countable, score_of
from imgpipeline.vision.agreement import Score, iou_of

DOG = Truth((100, 100, 160, 140), "dog", 1, 1.0)
CAR = Truth((300, 200, 400, 250), "car", 2, 1.0)
HIDDEN_DOG = Truth((100, 100, 160, 140), "dog", 3, 0.2)


def found(truth: Truth, *, label: str | None = None, dx: float = 0, confidence: float = 0.9) -> Detection:
    left, top, right, bottom = truth.box_xyxy
    name = label or truth.label
    return Detection(name, LABELS.index(name), confidence, (left + dx, top, right - left, bottom - top))


def test_objects_are_found_or_missed_and_other_boxes_are_false_alarms():
    assert score_of([], []) == Score()
    assert score_of([found(CAR), found(DOG)], [DOG, CAR]) == Score(2, 2, 2)
    assert score_of([found(CAR)], [DOG, CAR]) == Score(2, 1, 1), "a miss"
    assert score_of([found(DOG), found(DOG, dx=3)], [DOG]) == Score(1, 2, 1), "a second box is a false alarm"
    assert score_of([found(DOG, label="car")], [DOG]) == Score(1, 1, 0), "a wrong label"
    assert score_of([found(DOG, dx=30)], [DOG]) == Score(1, 1, 0), "a box next to its object"


def test_an_object_that_does_not_count_is_neither_a_miss_nor_a_false_alarm():
    assert score_of([], [HIDDEN_DOG]) == Score()
    assert score_of([found(HIDDEN_DOG)], [HIDDEN_DOG]) == Score()
    assert score_of([found(HIDDEN_DOG, dx=40)], [HIDDEN_DOG]) == Score()
    assert score_of([found(HIDDEN_DOG, dx=59)], [HIDDEN_DOG]) == Score(0, 1, 0)
    assert score_of([found(HIDDEN_DOG, label="car")], [HIDDEN_DOG]) == Score(0, 1, 0)


def test_a_countable_object_is_matched_before_one_that_does_not_count():
    near = Truth((104, 100, 164, 140), "dog", 1, 1.0)

    assert score_of([found(HIDDEN_DOG)], [HIDDEN_DOG, near]) == Score(1, 1, 1)


def test_scores_add_up_to_recall_and_precision():
    total = sum((Score(10, 8, 8), Score(2, 4, 1)), Score())

    assert total == Score(12, 12, 9)
    assert total.recall == total.precision == pytest.approx(0.75)
    assert Score().recall == Score().precision == 1.0


def test_iou_is_the_common_area_over_the_whole_area():
    assert iou_of(found(DOG), found(DOG, dx=30)) == pytest.approx(1 / 3)
    assert iou_of(found(DOG), found(DOG, dx=60)) == 0


BOXES = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)
TRUTHS = st.lists(
    st.builds(Truth, BOXES, st.sampled_from(LABELS), st.integers(1, 255), st.floats(0, 1)), max_size=6, unique=True
)


@given(truth=TRUTHS, shown=TRUTHS)
def test_every_countable_object_is_either_a_hit_or_a_miss_and_no_detection_counts_twice(truth, shown):
    score = score_of([found(t) for t in shown], truth)

    assert score.reference == sum(map(countable, truth))
    assert score.matched <= score.reference
    assert score.matched <= score.found <= len(shown)
    perfect = score_of([found(t) for t in truth if countable(t)], truth)
    assert perfect.reference == perfect.found == perfect.matched
