"""Zones and lines are counted by hour, and only changed ones are counted again."""

from datetime import UTC, datetime, timedelta

import pytest

from imgpipeline.events.configuration import Rules
from imgpipeline.events.places import count_crossings, count_in_zone
from imgpipeline.events.rule_tables import DayLineCrossings, DayZoneOccupancy
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.derived import State, state_of
from imgpipeline.lake.schema.events import LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.events.samples import LINE, NOON, ZONE, rules, seen, standing
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.tracking.films import Car, film

(YARD,), (DOOR,) = rules(ZONE).zone, rules(LINE).line
HOUR_S = 3600
ROAD = '[[zone]]\nname = "road"\nsource = "gate"\npoints = [[0, 0.3], [1, 0.3], [1, 0.4], [0, 0.4]]\n'
SKY = ROAD.replace("road", "sky").replace("0.3", "0").replace("0.4", "0.1")
STOP = (
    '[[line]]\nname = "stop"\nsource = "gate"\nsize = [640, 480]\npoints = [[95, 100], [95, 300]]\nbackward = "out"\n'
)


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


def at(minute: int) -> datetime:
    return datetime(2026, 1, 9, 12, minute, tzinfo=UTC)


@pytest.fixture
def store() -> ObjectStore:
    """A car drives slowly to the right from 12:05 to 12:25, through three slices of tracks."""
    opened = open_memory_store()
    write_chain(opened, film(at(5), at(25), [Car(at(5), at(25))]))
    rebuild_day(opened, DAY, now=NOON)
    build_tracks(opened, DAY, settings=Settings(), now=NOON)
    return opened


def build(store: ObjectStore, given: Rules, **more) -> list[list[str]]:
    """Build both tables; return what was counted."""
    made = [
        build_table(store, DAY, table, rules=given, settings=Settings(), **{"now": NOON, **more})
        for table in (ZONE_OCCUPANCY, LINE_CROSSINGS)
    ]
    return [each.manifest.made_with["counted_places"].splitlines() for each in made]


@pytest.mark.medium
def test_the_stored_counts_follow_objects_across_slices(store: ObjectStore):
    build(store, rules(ROAD + SKY + STOP))
    with open_lake(store) as lake:
        zones = lake.query("SELECT zone, label, objects, most_at_once, occupied_s FROM zone_occupancy").rows
        lines = lake.query("SELECT hour, line, label, direction, crossings, objects FROM line_crossings").rows
    assert zones == [("road", "car", 1, 1, 1195.0)]
    assert lines == [(NOON, "stop", "car", "out", 1, 1)]


@pytest.mark.medium
def test_only_a_changed_zone_is_counted_again_and_lines_stay_current(store: ObjectStore):
    before, moved = rules(ROAD + SKY + STOP), rules(ROAD + SKY.replace("0.1", "0.2") + STOP)
    assert build(store, before) == [["road", "sky"], ["stop"]]
    assert state_of(DayZoneOccupancy(store, Settings(), moved, DAY, NOON)) is State.OTHER_RECIPE
    assert state_of(DayLineCrossings(store, Settings(), moved, DAY, NOON)) is State.CURRENT
    assert build(store, moved)[0] == ["sky"]
    with open_lake(store) as lake:
        assert lake.query("SELECT DISTINCT zone FROM zone_occupancy").rows == [("road",)]


@pytest.mark.medium
def test_new_tracks_make_counts_stale_and_rows_of_a_removed_zone_are_removed(store: ObjectStore):
    build(store, rules(ROAD + STOP))
    build_tracks(store, DAY, settings=Settings(), force=True, now=NOON + timedelta(hours=1))
    assert state_of(DayLineCrossings(store, Settings(), rules(STOP), DAY, NOON)) is State.CURRENT, "the same tracks"
    build_tracks(store, DAY, settings=Settings(track_confidence=1), now=NOON + timedelta(hours=1))
    assert state_of(DayLineCrossings(store, Settings(), rules(STOP), DAY, NOON)) is State.STALE
    assert build(store, rules(SKY)) == [["sky"], []]
    with open_lake(store) as lake:
        assert lake.query("SELECT * FROM zone_occupancy").rows == lake.query("SELECT * FROM line_crossings").rows == []


@pytest.mark.medium
def test_a_past_day_keeps_its_zones(store: ObjectStore):
    build(store, rules(ROAD))
    later = NOON + timedelta(days=3)
    assert build(store, rules(SKY), keeps_rules=True, now=later) == [["road"], []]
    assert build(store, rules(SKY), now=later) == [["sky"], []]
