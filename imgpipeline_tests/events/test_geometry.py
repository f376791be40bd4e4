"""Foot points, zones and lines compared with plain definitions; a line is crossed once per clear change of side."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imgpipeline.events.configuration import Line
from imgpipeline.events.geometry import distance_from_line, find_crossings, foot_point, is_inside, segments_meet
from imgpipeline_tests.events.samples import LINE, rules, seen, standing

SQUARE = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0)]
WHOLE = st.integers(-20, 20).map(float)
POINTS = st.tuples(WHOLE, WHOLE)


@pytest.mark.parametrize(
    ("box", "foot"),
    [
        ((10, 10, 20, 30), (20, 40)),
        ((-10, 10, 20, 30), (5, 40)),
        ((90, 10, 20, 30), (95, 40)),
        ((10, 90, 20, 30), (20, 100)),
        ((10, -20, 20, 30), (20, 10)),
        ((150, 10, 20, 30), None),
        ((10, 130, 20, 30), None),
    ],
    ids=["inside", "left", "right", "below", "above", "right of it", "below it"],
)
def test_the_foot_point_is_that_of_the_visible_part(box, foot):
    assert foot_point(box, (100, 100)) == foot


@given(st.tuples(st.floats(-50, 150), st.floats(-50, 150), st.floats(0, 100), st.floats(0, 100)))
def test_a_foot_point_is_inside_the_image_and_the_box(box):
    foot = foot_point(box, (100, 60))
    overlaps = box[0] + box[2] >= 0 and box[1] + box[3] >= 0 and box[0] <= 100 and box[1] <= 60
    assert (foot is not None) == overlaps
    if foot:
        assert 0 <= foot[0] <= 100
        assert 0 <= foot[1] <= 60
        assert box[0] - 1e-9 <= foot[0] <= box[0] + box[2] + 1e-9


@given(POINTS)
def test_a_point_is_in_a_square_if_its_coordinates_are(point):
    expected = 0 <= point[0] <= 10 and 0 <= point[1] <= 10
    assert is_inside(point, SQUARE) == expected
    assert is_inside(point, SQUARE[::-1]) == expected


def test_the_space_between_the_arms_of_a_bent_zone_is_outside():
    u_shape = [(0, 0), (10, 0), (10, 10), (7, 10), (7, 3), (3, 3), (3, 10), (0, 10)]
    assert is_inside((1, 9), u_shape)
    assert not is_inside((5, 9), u_shape)


def test_the_right_side_of_a_line_from_left_to_right_is_below_it():
    assert distance_from_line((5, 13), (0, 10), (10, 10)) == 3
    assert distance_from_line((5, 6), (0, 10), (10, 10)) == -4


@given(POINTS, POINTS, POINTS, POINTS)
def test_whether_segments_meet_does_not_depend_on_their_order(a, b, c, d):
    assume(a != b)
    assume(c != d)
    answers = {segments_meet(a, b, c, d), segments_meet(b, a, c, d), segments_meet(c, d, a, b)}
    assert len(answers) == 1


@given(POINTS, POINTS, st.integers(0, 8), POINTS)
def test_segments_with_a_common_point_meet(a, b, eighths, c):
    on = (a[0] + (b[0] - a[0]) * eighths / 8, a[1] + (b[1] - a[1]) * eighths / 8)
    assume(a != b)
    assume(c != on)
    assert segments_meet(a, b, c, on)


(DOOR,) = rules(LINE).line
"""From (40, 50) to (160, 50) in images of 200 x 100 pixels, with a margin of one pixel."""


def crossings(points: Sequence[tuple[float, float]], line: Line = DOOR, track: str | None = "a", pause_s: float = 1):
    frames = [seen(n * pause_s, standing(x, y, track=track)) for n, (x, y) in enumerate(points)]
    return [found.direction for found in find_crossings(line, frames, longest_gap=timedelta(seconds=60))]


def test_down_is_in_and_up_is_out():
    assert crossings([(100, 40), (100, 60)]) == ["in"]
    assert crossings([(100, 60), (100, 40)]) == ["out"]
    assert crossings([(100, 40), (100, 60), (100, 40)]) == ["in", "out"]


def test_a_path_past_the_end_of_the_line_does_not_cross_it():
    assert crossings([(20, 40), (20, 60)]) == []
    assert crossings([(100, 40), (20, 49), (20, 60), (100, 60)]) == []


def test_an_object_without_a_track_does_not_cross():
    assert crossings([(100, 40), (100, 60)], track=None) == []


def test_after_a_long_gap_the_side_is_unknown():
    assert crossings([(100, 40), (100, 60)], pause_s=61) == []


def test_the_evidence_is_the_last_clear_frame_before_and_the_first_after():
    frames = [seen(n, standing(100, y, track="a")) for n, y in enumerate((40, 45, 50, 50.5, 56, 70))]
    (found,) = find_crossings(DOOR, frames, longest_gap=timedelta(seconds=60))
    assert (found.before, found.after, found.track_id, found.label) == (frames[1], frames[4], "a", "person")


@given(st.lists(st.floats(49.01, 50.99), max_size=40), st.booleans())
def test_jitter_within_the_margin_is_no_crossing(jitter: list[float], ends_below: bool):
    points = [(100.0, 40.0), *((100.0, y) for y in jitter), (100.0, 60.0 if ends_below else 40.0)]
    assert crossings(points) == (["in"] if ends_below else [])


@given(st.lists(st.sampled_from([30.0, 49.5, 50.0, 50.5, 70.0]), max_size=30))
def test_directions_alternate_and_end_on_the_last_clear_side(heights: list[float]):
    found = crossings([(100.0, y) for y in heights])
    clear = [y > 50 for y in heights if abs(y - 50) > 1]
    changes = ["in" if below else "out" for before, below in pairwise(clear) if before != below]
    assert found == changes


@given(st.lists(st.integers(-30, 130), min_size=2, max_size=30))
def test_a_box_that_is_partly_outside_the_image_crosses_at_most_as_often_as_its_visible_foot(heights: list[int]):
    low = Line.model_validate({**DOOR.model_dump(), "points": ((0.2, 0.9), (0.8, 0.9))})
    visible = [min(y, 100) > 90 for y in heights if abs(min(y, 100) - 90) >= 1 and 0 <= y <= 120]
    changes = sum(a != b for a, b in pairwise(visible))
    assert len(crossings([(100, y) for y in heights], low)) <= changes
