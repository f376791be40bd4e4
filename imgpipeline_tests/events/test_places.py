"""Zones and lines are counted by hour."""

from datetime import timedelta

from imgpipeline.events.places import count_crossings, count_in_zone
from imgpipeline_tests.events.samples import LINE, NOON, ZONE, rules, seen, standing

(YARD,), (DOOR,) = rules(ZONE).zone, rules(LINE).line
HOUR_S = 3600


def test_a_zone_counts_frames_objects_and_time():
    ann, bob = standing(100, 80, track="ann"), standing(50, 80, track="bob")
    frames = [seen(0, ann), seen(10, ann, bob), seen(20), seen(30, standing(20, 80)), seen(40, standing(20, 20))]
    assert count_in_zone(YARD, frames) == [
        {
            "hour": NOON, "source": "cam-1", "zone": "yard", "label": "person", "frames": 5, "occupied_frames": 3,
            "detections": 4, "most_at_once": 2, "objects": 2, "occupied_s": 10.0,
        }
    ]  # fmt: skip


def test_time_across_the_full_hour_is_split_and_long_gaps_do_not_count():
    ann = standing(100, 80, track="ann")
    frames = [seen(second, ann) for second in (HOUR_S - 20, HOUR_S + 30, HOUR_S + 91)]
    assert [(row["hour"] - NOON, row["occupied_s"], row["objects"]) for row in count_in_zone(YARD, frames)] == [
        (timedelta(0), 20.0, 1),
        (timedelta(hours=1), 30.0, 1),
    ]


def test_a_line_counts_each_direction_with_its_objects():
    frames = [
        seen(n, standing(100, y, track="ann"), standing(60, 60 if n else 40, track="bob"), standing(80, y))
        for n, y in enumerate((40, 60, 40, 60))
    ]
    rows = count_crossings(DOOR, frames)
    assert [(row["hour"], row["label"], row["direction"], row["crossings"], row["objects"]) for row in rows] == [
        (NOON, "person", "in", 3, 2),
        (NOON, "person", "out", 1, 1),
    ]
