"""Rules about tracked objects follow them across slices by the stored tracks."""

from datetime import UTC, datetime

import pytest

from imgpipeline.events.rule_tables import DayEvents
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.derived import State, state_of
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.events.samples import rules
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain
from imgpipeline_tests.tracking.films import Car, film

OBJECT = "gate/car/20260109T1200/1"
ROAD = '[[zone]]\nname = "road"\nsource = "gate"\npoints = [[0, 0.3], [1, 0.3], [1, 0.4], [0, 0.4]]\n'
LOITERS = '[[rule]]\nname = "loiters"\nkind = "dwell_time"\nzone = "road"\nlabels = ["car"]\nseconds = 900\n'
STOP = (
    '[[line]]\nname = "stop"\nsource = "gate"\nsize = [640, 480]\npoints = [[95, 100], [95, 300]]\nbackward = "out"\n'
)
CROSSES = '[[rule]]\nname = "crosses"\nkind = "line_crossing"\nline = "stop"\n'
RULES = rules(ROAD + STOP + LOITERS + CROSSES)


def at(minute: int, second: int = 0) -> datetime:
    return datetime(2026, 1, 9, 12, minute, second, tzinfo=UTC)


@pytest.fixture
def store() -> ObjectStore:
    """A car drives slowly to the right from 12:05 to 12:25, through three slices of tracks."""
    opened = open_memory_store()
    write_chain(opened, film(at(5), at(25), [Car(at(5), at(25))]))
    rebuild_day(opened, DAY, now=NOON)
    return opened


def build(store: ObjectStore, given=RULES) -> list[tuple]:
    build_table(store, DAY, EVENTS, rules=given, settings=Settings(), now=NOON)
    with open_lake(store) as lake:
        return lake.query(
            "SELECT rule, started_at, timestamp, direction, value, label, track_ids FROM events ORDER BY rule"
        ).rows


@pytest.mark.medium
def test_an_object_dwells_and_crosses_across_slices(store: ObjectStore):
    build_tracks(store, DAY, settings=Settings(), now=NOON)
    assert build(store) == [
        ("crosses", at(18, 20), at(21, 40), "out", None, "car", [OBJECT]),
        ("loiters", at(5), at(20), None, 900.0, "car", [OBJECT]),
    ]
    assert build(store, rules(STOP + CROSSES + 'direction = "forward"\n')) == []


@pytest.mark.medium
def test_without_tracks_no_object_dwells_or_crosses_and_new_tracks_make_events_stale(store: ObjectStore):
    entry = DayEvents(store, Settings(), RULES, DAY, NOON)
    assert build(store) == []
    assert state_of(entry) is State.CURRENT
    build_tracks(store, DAY, settings=Settings(), now=NOON)
    assert state_of(entry) is State.STALE
    assert len(build(store)) == 2
