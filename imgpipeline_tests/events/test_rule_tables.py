"""Tables that rules make follow their inputs and rules, and objects across slices of tracks; past days keep theirs."""

from datetime import timedelta

import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.events.configuration import Rules
from imgpipeline.events.rule_tables import DayEvents, DayLineCrossings, DayZoneOccupancy
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.derived import State, state_of
from imgpipeline.lake.schema.events import EVENTS, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.events.samples import CHANGE, CROSSES, LOITERS, NOON, ROAD, STOP, ZONE, at, rules
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, append, write_chain
from imgpipeline_tests.tracking.films import Car, film

SAME_DAY, DAYS_LATER = NOON + timedelta(hours=3), NOON + timedelta(days=3)
CROWD = '[[rule]]\nname = "crowd"\nkind = "count"\nabove = 1\n'
IN_YARD = '[[rule]]\nname = "in the yard"\nkind = "zone_occupancy"\nzone = "yard"\n'
SKY = ROAD.replace("road", "sky").replace("0.3", "0").replace("0.4", "0.1")
TOP = ZONE.replace("0.5", "0").replace("[1, 1], [0, 1]", "[1, 0.5], [0, 0.5]")
"""The zone in the upper half; detections of the samples stand there."""


@pytest.fixture
def driven(memory: ObjectStore) -> ObjectStore:
    """A car drives slowly to the right from 12:05 to 12:25, through three slices of tracks."""
    write_chain(memory, film(at(5), at(25), [Car(at(5), at(25))]))
    rebuild_day(memory, DAY, now=NOON)
    return memory


def build(store: ObjectStore, given: Rules, **more):
    return build_table(store, DAY, EVENTS, rules=given, settings=Settings(), **{"now": SAME_DAY, **more})


def state(store: ObjectStore, given: Rules) -> State:
    return state_of(DayEvents(store, Settings(), given, DAY, SAME_DAY))


def named(store: ObjectStore) -> list[tuple[str, str]]:
    with open_lake(store) as lake:
        return lake.query("SELECT rule, event_id FROM events ORDER BY ALL").rows


def make_day(store: ObjectStore):
    """Write frames of which some show two cars, and build the day's tables."""
    outcomes = [seen(n, ["car"] * (n % 4), timestamp=NOON + timedelta(seconds=n)) for n in range(8)]
    chain = write_chain(store, outcomes)
    rebuild_day(store, DAY, now=NOON)
    return chain


@pytest.mark.medium
def test_a_changed_zone_changes_only_the_events_of_rules_that_read_it(memory):
    make_day(memory)
    build(memory, rules(TOP + CROWD + IN_YARD))
    before = named(memory)
    moved = rules(TOP.replace("[1, 0.5], [0, 0.5]", "[1, 0], [0, 0]") + CROWD + IN_YARD)
    assert state(memory, moved) is State.OTHER_RECIPE
    build(memory, moved)
    assert named(memory) == [row for row in before if row[0] == "crowd"] != before


def test_targets_and_a_zone_that_no_rule_reads_make_no_event_stale(memory):
    make_day(memory)
    build(memory, rules(CROWD))
    assert state(memory, rules(CROWD + 'notify = ["guards"]\n')) is State.CURRENT
    assert state(memory, rules(ZONE + CROWD)) is State.CURRENT


@pytest.mark.medium
def test_a_past_day_keeps_its_rules_until_a_person_builds_it(memory):
    chain, old, new = make_day(memory), rules(CROWD), rules(CROWD.replace("crowd", "new"))
    build(memory, old)
    assert build(memory, new, keeps_rules=True, now=DAYS_LATER).skipped
    append(chain, [seen(8, ["car"] * 2, timestamp=NOON + timedelta(seconds=8))])
    rebuild_day(memory, DAY, now=NOON)
    assert not build(memory, new, keeps_rules=True, now=DAYS_LATER).skipped
    assert {rule for rule, _ in named(memory)} == {"crowd"}
    build(memory, new, now=DAYS_LATER)
    assert {rule for rule, _ in named(memory)} == {"new"}


def test_the_current_day_uses_new_rules_immediately_and_keeps_no_events_of_removed_ones(memory):
    make_day(memory)
    build(memory, rules(CROWD))
    build(memory, rules(CROWD.replace("crowd", "new")), keeps_rules=True)
    assert {rule for rule, _ in named(memory)} == {"new"}


def test_a_missing_table_is_named_with_the_command_that_builds_it(memory):
    with pytest.raises(PermanentError, match="no table `frames`"):
        build(memory, rules(CROWD))
    make_day(memory)
    with pytest.raises(
        PermanentError, match=r"no table `frame_changes`.*--select frame_changes --partition 2026-01-09"
    ):
        build(memory, rules(CHANGE))


def test_without_rules_the_table_is_empty(memory):
    make_day(memory)
    assert build(memory, Rules()).manifest.rows == 0


def found_of(store: ObjectStore, text: str) -> list[tuple]:
    """Build the events of rules; return them by rule."""
    build(store, rules(text))
    with open_lake(store) as lake:
        return lake.query(
            "SELECT rule, started_at, timestamp, direction, value, label, track_ids FROM events ORDER BY rule"
        ).rows


@pytest.mark.medium
def test_an_object_dwells_and_crosses_across_slices(driven):
    build_tracks(driven, DAY, settings=Settings(), now=NOON)
    car = ["gate/car/20260109T1200/1"]
    assert found_of(driven, ROAD + STOP + LOITERS + CROSSES) == [
        ("crosses", at(18, 20), at(21, 40), "out", None, "car", car),
        ("loiters", at(5), at(20), None, 900.0, "car", car),
    ]
    assert found_of(driven, STOP + CROSSES + 'direction = "forward"\n') == []


@pytest.mark.medium
def test_without_tracks_no_object_dwells_or_crosses_and_new_tracks_make_events_stale(driven):
    text = ROAD + STOP + LOITERS + CROSSES
    assert found_of(driven, text) == []
    assert state(driven, rules(text)) is State.CURRENT
    build_tracks(driven, DAY, settings=Settings(), now=NOON)
    assert state(driven, rules(text)) is State.STALE
    assert len(found_of(driven, text)) == 2


def counted(store: ObjectStore, text: str, **more) -> tuple[list[tuple], list[tuple]]:
    """Count at zones and lines; return the rows of both tables."""
    for table in (ZONE_OCCUPANCY, LINE_CROSSINGS):
        build_table(store, DAY, table, rules=rules(text), settings=Settings(), **{"now": NOON, **more})
    with open_lake(store) as lake:
        zones = lake.query("SELECT zone, label, objects, most_at_once, occupied_s FROM zone_occupancy").rows
        return zones, lake.query("SELECT hour, line, label, direction, crossings, objects FROM line_crossings").rows


AT_ROAD, AT_STOP = [("road", "car", 1, 1, 1195.0)], [(NOON, "stop", "car", "out", 1, 1)]


@pytest.mark.medium
def test_counts_follow_objects_across_slices_and_a_changed_zone_leaves_lines_current(driven):
    build_tracks(driven, DAY, settings=Settings(), now=NOON)
    assert counted(driven, ROAD + SKY + STOP) == (AT_ROAD, AT_STOP)
    moved = rules(ROAD + SKY.replace("0.1", "0.2") + STOP)
    assert state_of(DayZoneOccupancy(driven, Settings(), moved, DAY, NOON)) is State.OTHER_RECIPE
    assert state_of(DayLineCrossings(driven, Settings(), moved, DAY, NOON)) is State.CURRENT


@pytest.mark.medium
def test_new_tracks_make_counts_stale_and_rows_of_a_removed_zone_are_removed(driven):
    build_tracks(driven, DAY, settings=Settings(), now=NOON)
    counted(driven, ROAD + STOP)
    entry = DayLineCrossings(driven, Settings(), rules(STOP), DAY, NOON)
    build_tracks(driven, DAY, settings=Settings(), force=True, now=NOON + timedelta(hours=1))
    assert state_of(entry) is State.CURRENT, "the same tracks"
    build_tracks(driven, DAY, settings=Settings(track_confidence=1), now=NOON + timedelta(hours=1))
    assert state_of(entry) is State.STALE
    assert counted(driven, SKY) == ([], [])


@pytest.mark.medium
def test_a_past_day_keeps_its_zones(driven):
    build_tracks(driven, DAY, settings=Settings(), now=NOON)
    counted(driven, ROAD)
    assert counted(driven, SKY, keeps_rules=True, now=DAYS_LATER) == (AT_ROAD, [])
    assert counted(driven, SKY, now=DAYS_LATER) == ([], [])
