"""Rules find events in frames; foot points, zones and lines compared with plain definitions."""

from collections.abc import Sequence
from datetime import UTC, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imgpipeline.events.configuration import AbsenceRule, CountRule, DwellTimeRule, Line, Rules, ZoneOccupancyRule
from imgpipeline.events.evaluate import evaluate
from imgpipeline.events.geometry import distance_from_line, find_crossings, foot_point, is_inside, segments_meet
from imgpipeline.events.values import Event, SeenFrame
from imgpipeline_tests.events.samples import LINE, NOON, ZONE, rules, seen, standing

IN_YARD, OUTSIDE = standing(100, 80), standing(100, 20)
(YARD,) = rules(ZONE).zone
COUNTS = st.lists(st.tuples(st.floats(0.1, 90), st.integers(0, 3)), max_size=30)


def found(rule, frames: Sequence[SeenFrame], zone=UTC) -> list[Event]:
    """Evaluate one rule, with a zone `yard` in the lower half of the image."""
    return evaluate(Rules(zone=(YARD,), rule=(rule,)), rule, zone, frames=frames)


def occupancy(**fields) -> ZoneOccupancyRule:
    return ZoneOccupancyRule(name="occupied", kind="zone_occupancy", zone="yard", **fields)


def count(**fields) -> CountRule:
    return CountRule(kind="count", **{"name": "crowd", "above": 1, **fields})


def seconds_after_noon(events: Sequence[Event]) -> list[tuple[float, float, float]]:
    return [
        ((e.started_at - NOON).total_seconds(), (e.timestamp - NOON).total_seconds(),
         (e.ended_at - NOON).total_seconds())
        for e in events
    ]  # fmt: skip


def test_a_zone_is_occupied_from_the_first_to_the_last_frame_with_an_object_in_it():
    frames = [seen(0), seen(1, OUTSIDE), seen(2, IN_YARD), seen(3, IN_YARD), seen(4, OUTSIDE), seen(5, IN_YARD)]
    events = found(occupancy(), frames)
    assert seconds_after_noon(events) == [(2, 2, 3), (5, 5, 5)]
    assert [(e.place, e.label, e.value, e.reason) for e in events] == [("yard", "person", 1, "1 object in yard")] * 2


def test_short_interruptions_are_bridged_but_gaps_without_frames_are_not():
    frames = [seen(0, IN_YARD), seen(1), seen(2, IN_YARD), seen(3), seen(4), seen(5, IN_YARD), seen(99, IN_YARD)]
    assert seconds_after_noon(found(occupancy(bridge_s=2), frames)) == [(0, 0, 2), (5, 5, 5), (99, 99, 99)]
    assert seconds_after_noon(found(occupancy(bridge_s=3), frames)) == [(0, 0, 5), (99, 99, 99)]


def test_a_count_must_be_high_for_long_enough():
    two = (IN_YARD, OUTSIDE)
    frames = [seen(0, *two), seen(4, *two), seen(5), seen(6, *two), seen(9, *two), seen(16, *two), seen(17, *two)]
    (event,) = found(count(seconds=10), frames)
    assert seconds_after_noon([event]) == [(6, 16, 17)]
    assert (event.value, event.frame_ids) == (2, (frames[3].frame_id, frames[5].frame_id))


def test_absence_needs_frames():
    rule = AbsenceRule(name="gone", kind="absence", zone="yard", seconds=20)
    assert found(rule, [seen(0, IN_YARD), seen(10), seen(100, IN_YARD)]) == []
    (event,) = found(rule, [seen(0, IN_YARD), seen(10, OUTSIDE), seen(20), seen(30), seen(35, IN_YARD)])
    assert seconds_after_noon([event]) == [(10, 30, 30)]
    assert event.reason == "nothing for 20 s in yard"


def test_labels_confidence_and_sources_choose_what_counts():
    car, frame = standing(100, 80, label="car"), seen(0, IN_YARD)
    assert found(occupancy(labels=("car",)), [frame]) == []
    assert len(found(occupancy(labels=("car",)), [seen(0, IN_YARD, car)])) == 1
    assert found(occupancy(min_confidence=0.95), [frame]) == []
    assert found(occupancy(), [seen(0, IN_YARD, source="cam-2")]) == []
    both = [seen(0, IN_YARD, OUTSIDE, source=source) for source in ("cam-2", "cam-1")]
    assert [event.source for event in found(count(), both)] == ["cam-1", "cam-2"]
    assert [event.source for event in found(count(sources=("cam-2",)), both)] == ["cam-2"]


def test_hours_are_in_the_time_zone_of_the_site():
    rule = occupancy(hours="17:30-06:00")
    assert found(rule, [seen(0, IN_YARD)]) == []
    assert len(found(rule, [seen(0, IN_YARD)], ZoneInfo("Asia/Kolkata"))) == 1  # 17:30 there


def test_a_cooldown_starts_with_an_event():
    frames = [seen(second, *([IN_YARD] if second % 2 == 0 else [])) for second in range(12)]
    assert seconds_after_noon(found(occupancy(cooldown_s=4), frames)) == [(0, 0, 0), (4, 4, 4), (8, 8, 8)]


def test_an_object_without_a_track_never_dwells():
    rule = DwellTimeRule(name="loiters", kind="dwell_time", zone="yard", seconds=5)
    assert found(rule, [seen(second, IN_YARD) for second in range(10)]) == []


def test_each_tracked_object_dwells_separately():
    rule = DwellTimeRule(name="loiters", kind="dwell_time", zone="yard", seconds=5)
    first, second = standing(50, 80, track="a"), standing(150, 80, track="b")
    frames = [seen(n, *([first] if n < 4 else [second])) for n in range(10)]
    (event,) = found(rule, frames)
    assert (event.track_ids, event.value, seconds_after_noon([event])) == (("b",), 5, [(4, 9, 9)])


def frames_of(steps: Sequence[tuple[float, int]]) -> list[SeenFrame]:
    """Return frames with so many objects, each some seconds after the one before."""
    at, frames = 0.0, []
    for pause_s, objects in steps:
        at += pause_s
        frames.append(seen(round(at, 3), *[IN_YARD] * objects))
    return frames


RULES = [
    occupancy(bridge_s=20), occupancy(cooldown_s=30), count(seconds=40, bridge_s=5),
    AbsenceRule(name="gone", kind="absence", seconds=30),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=["occupied", "cooldown", "count", "absence"])
@given(steps=COUNTS, data=st.data())
def test_later_frames_do_not_change_earlier_events(rule, steps, data):
    frames = frames_of(steps)
    cut = data.draw(st.integers(0, len(frames)))
    early, late = found(rule, frames[:cut]), found(rule, frames)
    met = [event for event in late if frames[:cut] and event.timestamp <= frames[cut - 1].timestamp]
    assert [event.event_id for event in early] == [event.event_id for event in met]
    assert all(a.ended_at <= b.ended_at for a, b in zip(early, met, strict=True))


@pytest.mark.parametrize("rule", RULES, ids=["occupied", "cooldown", "count", "absence"])
@given(steps=COUNTS, data=st.data())
def test_the_order_in_which_frames_are_given_does_not_matter(rule, steps, data):
    frames = frames_of(steps)
    assert found(rule, data.draw(st.permutations(frames))) == found(rule, frames)


@given(steps=COUNTS)
def test_event_ids_depend_on_rule_and_evidence(steps):
    events = found(count(), frames_of(steps))
    assert len({event.event_id for event in events}) == len(events)
    others = found(count(name="another"), frames_of(steps))
    assert {event.event_id for event in events}.isdisjoint(event.event_id for event in others)


@given(steps=COUNTS, seconds=st.floats(0, 100))
def test_a_count_rule_agrees_with_a_plain_loop(steps, seconds):
    frames = frames_of(steps)
    expected, start = [], None
    for before, frame in zip([None, *frames], frames, strict=False):
        if start and before and (frame.timestamp - before.timestamp > timedelta(seconds=60) or not before.objects[1:]):
            start = None
        if len(frame.objects) > 1:
            start = start or [frame.timestamp, False]
            if not start[1] and frame.timestamp - start[0] >= timedelta(seconds=seconds):
                start[1] = True
                expected.append(frame.timestamp)
        else:
            start = None
    assert [event.timestamp for event in found(count(seconds=seconds), frames)] == expected


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
    return [found.direction for found in find_crossings(line, frames)]


def test_a_path_past_the_end_of_the_line_does_not_cross_it():
    assert crossings([(20, 40), (20, 60)]) == []
    assert crossings([(100, 40), (20, 49), (20, 60), (100, 60)]) == []


def test_an_object_without_a_track_does_not_cross():
    assert crossings([(100, 40), (100, 60)], track=None) == []


def test_an_object_that_is_hidden_at_the_line_crosses_it():
    assert crossings([(100, 40), (100, 60)], pause_s=5) == ["in"]


def test_the_evidence_is_the_last_clear_frame_before_and_the_first_after():
    frames = [seen(n, standing(100, y, track="a")) for n, y in enumerate((40, 45, 50, 50.5, 56, 70))]
    (found,) = find_crossings(DOOR, frames)
    assert (found.before, found.after, found.track_id, found.label) == (frames[1], frames[4], "a", "person")


@given(st.lists(st.floats(49.01, 50.99), max_size=40), st.booleans())
def test_jitter_within_the_margin_is_no_crossing(jitter, ends_below):
    points = [(100.0, 40.0), *((100.0, y) for y in jitter), (100.0, 60.0 if ends_below else 40.0)]
    assert crossings(points) == (["in"] if ends_below else [])


@given(st.lists(st.sampled_from([30.0, 49.5, 50.0, 50.5, 70.0]), max_size=30))
def test_down_is_in_up_is_out_and_they_alternate_up_to_the_last_clear_side(heights):
    found = crossings([(100.0, y) for y in heights])
    clear = [y > 50 for y in heights if abs(y - 50) > 1]
    changes = ["in" if below else "out" for before, below in pairwise(clear) if before != below]
    assert found == changes


@given(st.lists(st.integers(-30, 130), min_size=2, max_size=30))
def test_a_box_that_is_partly_outside_the_image_crosses_at_most_as_often_as_its_visible_foot(heights):
    low = Line.model_validate({**DOOR.model_dump(), "points": ((0.2, 0.9), (0.8, 0.9))})
    visible = [min(y, 100) > 90 for y in heights if abs(min(y, 100) - 90) >= 1 and 0 <= y <= 120]
    changes = sum(a != b for a, b in pairwise(visible))
    assert len(crossings([(100, y) for y in heights], low)) <= changes
