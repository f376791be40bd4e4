"""The simulator: the same seed gives the same bytes, and the truth is what was drawn."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.sources.simulator.scene import Scene, brightness_at, light_of
from imgpipeline.sources.simulator.truth import LABELS, Truth, countable


def test_the_same_seed_gives_the_same_bytes_and_truth_in_any_order_of_frames():
    first, second = Scene(7, frames=6), Scene(7, frames=6)

    forwards = [first.jpeg(number) for number in range(6)]
    backwards = [second.jpeg(number) for number in reversed(range(6))]

    assert forwards == backwards[::-1]
    assert [truth for _, truth in first] == [truth for _, truth in first] == [truth for _, truth in forwards]
    assert len({data for data, _ in forwards}) == len(first) == 6, "no two frames are equal"
    assert Scene(8).jpeg(0)[0] != forwards[0][0], "another seed gives another scene"


def test_a_picture_equals_its_decoded_jpeg():
    scene = Scene(4)
    image, truth = scene.frame(10)
    jpeg, same_truth = scene.jpeg(10)

    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)

    assert image.shape == (360, 640, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, decoded)
    assert truth == same_truth


@pytest.mark.parametrize("label", LABELS)
def test_the_truth_box_encloses_the_pixels_that_the_object_changed(label):
    """The oracle is the picture without objects, which differs only inside the boxes (a thin tail may not)."""
    seed = next(s for s in range(200) if [t.label for t in Scene(s, objects=1).jpeg(25)[1]] == [label])
    [truth] = Scene(seed, objects=1).jpeg(25)[1]
    with_object, without = (Scene(seed, objects=n, hour=12).frame(25)[0] for n in (1, 0))

    changed = np.abs(with_object.astype(int) - without.astype(int)).max(axis=2) > 40
    x, y, width, height = cv2.boundingRect(changed.astype(np.uint8))

    assert np.allclose((x, y, x + width, y + height), truth.box_xyxy, atol=5)


@pytest.mark.medium
def test_objects_overlap_at_most_by_the_given_share_and_a_box_covers_only_the_visible_part():
    def worst(overlap: float) -> float:
        least = 1.0
        for seed in range(20):
            truths = Scene(seed, objects=12, overlap=overlap).jpeg(25)[1]
            for truth in truths:
                if truth.box_xyxy[0] > 5 and truth.box_xyxy[2] < 635:
                    least = min(least, truth.visible)
                    others = [other for other in truths if other.track_id != truth.track_id]
                    assert truth.visible > 0.9 or any(_touch(truth, other) for other in others), "the box of the rest"
        return least

    assert worst(0) > 0.95
    assert worst(1) < worst(0.35) < 0.95


@pytest.mark.medium
def test_objects_move_enter_and_leave():
    entered = left = 0
    for seed in range(12):
        first, last = ({t.track_id: t for t in Scene(seed).jpeg(n)[1]} for n in (0, 49))
        entered += len(last.keys() - first.keys())
        left += len(first.keys() - last.keys())
        moved = [_centre_x(last[i]) - _centre_x(first[i]) for i in first.keys() & last.keys()]
        assert all(abs(dx) > 5 for dx in moved)

    assert entered >= 2
    assert left >= 2


@pytest.mark.medium
def test_an_object_stays_in_the_picture_keeps_its_track_id_and_label_and_does_not_jump():
    frames = [{t.track_id: t for t in truth} for _, truth in Scene(2)]
    for truth in (truth for frame in frames for truth in frame.values()):
        left, top, right, bottom = truth.box_xyxy
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 360
        assert 0 <= truth.visible <= 1
        assert truth.label in LABELS
        assert truth.track_id >= 1
    steps = [(before[i], after[i]) for before, after in pairwise(frames) for i in before.keys() & after.keys()]

    assert steps
    for before, after in steps:
        assert before.label == after.label
        if min(before.visible, after.visible) > 0.99:
            assert abs(_centre_x(after) - _centre_x(before)) < 12


@pytest.mark.medium
def test_every_class_is_drawn_about_equally_often():
    labels = [t.label for seed in range(30) for t in Scene(seed).jpeg(25)[1]]

    assert all(labels.count(label) > len(labels) / 8 for label in LABELS)


def test_night_frames_are_darker_than_day_frames_and_nothing_else_differs():
    for seed in range(5):
        night, day = Scene(seed, hour=2), Scene(seed, hour=12)
        (dark, truth), (bright, same_truth) = night.frame(0), day.frame(0)
        assert dark.mean() < 0.65 * bright.mean()
        assert truth == same_truth


def test_brightness_rises_at_dawn_falls_at_dusk_and_is_steady_between():
    assert brightness_at(0) == brightness_at(4.9) == brightness_at(23) == brightness_at(24)
    assert brightness_at(4.9) < brightness_at(6) < brightness_at(7) < brightness_at(8)
    assert brightness_at(8) == brightness_at(12) == brightness_at(18)
    assert brightness_at(18) > brightness_at(19) > brightness_at(20) > brightness_at(21)


@given(hour=st.floats(0, 24), seed=st.integers(0, 2**32))
def test_no_hour_gives_a_black_or_overexposed_picture(hour, seed):
    gain = light_of(hour, 50, np.random.default_rng(seed)).gain

    assert 0.25 < gain.min() <= gain.max() < 1.4


@pytest.mark.medium
def test_without_an_hour_the_seed_chooses_one():
    hours = [Scene(seed).hour for seed in range(40)]

    assert min(hours) < 6
    assert max(hours) > 18


def test_an_object_counts_if_30_percent_and_144_px2_are_visible():
    assert countable(Truth((0, 0, 12, 12), "dog", 1, 0.3))
    assert not countable(Truth((0, 0, 12, 12), "dog", 1, 0.29))
    assert not countable(Truth((0, 0, 13, 11), "dog", 1, 1.0))


def _centre_x(truth: Truth) -> float:
    return (truth.box_xyxy[0] + truth.box_xyxy[2]) / 2


def _touch(a: Truth, b: Truth) -> bool:
    """Returns whether the boxes touch or nearly touch: a hidden part is next to the visible box."""
    return (
        max(a.box_xyxy[0], b.box_xyxy[0]) <= min(a.box_xyxy[2], b.box_xyxy[2]) + 2
        and max(a.box_xyxy[1], b.box_xyxy[1]) <= min(a.box_xyxy[3], b.box_xyxy[3]) + 2
    )
