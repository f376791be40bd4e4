"""Rules find events in frames; later frames never change an event."""

from collections.abc import Sequence
from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.events.configuration import AbsenceRule, CountRule, DwellTimeRule, Rules, ZoneOccupancyRule
from imgpipeline.events.evaluate import evaluate
from imgpipeline.events.values import Event, SeenFrame
from imgpipeline_tests.events.samples import NOON, ZONE, rules, seen, standing

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
def test_later_frames_do_not_change_earlier_events(rule, steps, data: st.DataObject):
    frames = frames_of(steps)
    cut = data.draw(st.integers(0, len(frames)))
    early, late = found(rule, frames[:cut]), found(rule, frames)
    met = [event for event in late if frames[:cut] and event.timestamp <= frames[cut - 1].timestamp]
    assert [event.event_id for event in early] == [event.event_id for event in met]
    assert all(a.ended_at <= b.ended_at for a, b in zip(early, met, strict=True))


@pytest.mark.parametrize("rule", RULES, ids=["occupied", "cooldown", "count", "absence"])
@given(steps=COUNTS, data=st.data())
def test_the_order_in_which_frames_are_given_does_not_matter(rule, steps, data: st.DataObject):
    frames = frames_of(steps)
    assert found(rule, data.draw(st.permutations(frames))) == found(rule, frames)


@given(steps=COUNTS)
def test_event_ids_depend_on_rule_and_evidence(steps):
    events = found(count(), frames_of(steps))
    assert len({event.event_id for event in events}) == len(events)
    others = found(count(name="another"), frames_of(steps))
    assert {event.event_id for event in events}.isdisjoint(event.event_id for event in others)


@given(steps=COUNTS, seconds=st.floats(0, 100))
def test_a_count_rule_agrees_with_a_plain_loop(steps, seconds: float):
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
