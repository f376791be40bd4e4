"""Foot points, zones and lines, compared with plain definitions."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imgpipeline.events.geometry import distance_from_line, foot_point, is_inside, segments_meet

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
def test_the_foot_point_is_that_of_the_part_inside_the_image(box, foot):
    assert foot_point(box, (100, 100)) == foot


@given(st.tuples(st.floats(-50, 150), st.floats(-50, 150), st.floats(0, 100), st.floats(0, 100)))
def test_a_foot_point_lies_in_the_image_and_in_the_box(box):
    foot = foot_point(box, (100, 60))
    overlaps = box[0] + box[2] >= 0 and box[1] + box[3] >= 0 and box[0] <= 100 and box[1] <= 60
    assert (foot is not None) == overlaps
    if foot:
        assert 0 <= foot[0] <= 100
        assert 0 <= foot[1] <= 60
        assert box[0] - 1e-9 <= foot[0] <= box[0] + box[2] + 1e-9


@given(POINTS)
def test_a_point_is_in_a_square_as_its_coordinates_say(point):
    expected = 0 <= point[0] <= 10 and 0 <= point[1] <= 10
    assert is_inside(point, SQUARE) == expected
    assert is_inside(point, SQUARE[::-1]) == expected


def test_a_bent_zone_leaves_out_what_lies_between_its_arms():
    u_shape = [(0, 0), (10, 0), (10, 10), (7, 10), (7, 3), (3, 3), (3, 10), (0, 10)]
    assert is_inside((1, 9), u_shape)
    assert not is_inside((5, 9), u_shape)


def test_below_a_line_to_the_right_is_its_right_side():
    assert distance_from_line((5, 13), (0, 10), (10, 10)) == 3
    assert distance_from_line((5, 6), (0, 10), (10, 10)) == -4


@given(POINTS, POINTS, POINTS, POINTS)
def test_segments_meet_whichever_way_they_are_named(a, b, c, d):
    assume(a != b)
    assume(c != d)
    answers = {segments_meet(a, b, c, d), segments_meet(b, a, c, d), segments_meet(c, d, a, b)}
    assert len(answers) == 1


@given(POINTS, POINTS, st.integers(0, 8), POINTS)
def test_segments_meet_in_a_point_that_lies_on_both(a, b, eighths, c):
    on = (a[0] + (b[0] - a[0]) * eighths / 8, a[1] + (b[1] - a[1]) * eighths / 8)
    assume(a != b)
    assume(c != on)
    assert segments_meet(a, b, c, on)
