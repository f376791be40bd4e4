"""A line is crossed when a tracked foot point gets clearly from one side to the other, once."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.events.configuration import Line
from imgpipeline.events.crossings import find_crossings
from imgpipeline_tests.events.samples import LINE, rules, seen, standing

(DOOR,) = rules(LINE).line
"""From (40, 50) to (160, 50) in images of 200 x 100 pixels, with a margin of one pixel."""


def crossings(points: Sequence[tuple[float, float]], line: Line = DOOR, track: str | None = "a", pause_s: float = 1):
    frames = [seen(n * pause_s, standing(x, y, track=track)) for n, (x, y) in enumerate(points)]
    return [found.direction for found in find_crossings(line, frames, longest_gap=timedelta(seconds=60))]


def test_down_is_in_and_up_is_out():
    assert crossings([(100, 40), (100, 60)]) == ["in"]
    assert crossings([(100, 60), (100, 40)]) == ["out"]
    assert crossings([(100, 40), (100, 60), (100, 40)]) == ["in", "out"]


def test_beside_the_line_nothing_is_crossed():
    assert crossings([(20, 40), (20, 60)]) == []
    assert crossings([(100, 40), (20, 49), (20, 60), (100, 60)]) == []


def test_what_has_no_track_does_not_cross():
    assert crossings([(100, 40), (100, 60)], track=None) == []


def test_after_a_long_pause_the_side_is_unknown():
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
