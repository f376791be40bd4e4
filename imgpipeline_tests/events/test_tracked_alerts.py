"""Rules about tracked objects raise one alert per event after each build of the day's events."""

from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from imgpipeline.events.alerts.chain import read_alerts
from imgpipeline.events.alerts.watching import Watch
from imgpipeline.events.configuration import Rules
from imgpipeline.events.reading import read_events
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.events.samples import rules
from imgpipeline_tests.events.test_tracked_events import CROSSES, LOITERS, ROAD, STOP, at
from imgpipeline_tests.ledger.samples import DAY, NOON, append, writer
from imgpipeline_tests.objectstore.stores import folder_settings
from imgpipeline_tests.tracking.films import Car, film

SEEN = '[[rule]]\nname = "seen"\nkind = "zone_occupancy"\nzone = "road"\n'
RULES = rules(ROAD + STOP + LOITERS.replace("seconds = 900", "seconds = 60") + CROSSES + SEEN)
CARS = [Car(at(5), at(25)), Car(at(7), at(24), y=300.0), Car(at(14), at(31), y=20.0)]
MINUTES = (5, 9, 12, 17, 21, 23, 32)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """A store whose objects have versions."""
    return open_store(folder_settings(tmp_path))


def build(store: ObjectStore, tmp_path: Path, given: Rules, now: datetime) -> None:
    """Build what automation builds after frames have arrived."""
    settings = folder_settings(tmp_path)
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=settings, now=now)
    build_table(store, DAY, EVENTS, rules=given, settings=settings, now=now)


@pytest.mark.medium
def test_dwelling_and_crossing_raise_alerts_after_each_build_and_other_rules_before(store: ObjectStore, tmp_path: Path):
    live = Watch(store, folder_settings(tmp_path), RULES, lambda: at(33))
    chain, frames = writer(store), film(at(5), at(32), CARS)
    before: list[str] = []
    after: list[str] = []
    for first, last in pairwise(MINUTES):
        append(chain, [frame for frame in frames if at(first) <= frame.timestamp < at(last)])
        before += [alert.event.rule for alert in live.look()]
        build(store, tmp_path, RULES, at(last))
        after += [alert.event.rule for alert in live.look()]
    assert set(before) == {"seen"}
    assert set(after) == {"loiters", "crosses"}
    alerts = list(read_alerts(store))
    events = read_events(store, folder_settings(tmp_path), DAY)
    assert sorted(alert.event.event_id for alert in alerts) == sorted(event.event_id for event in events)
    assert [alert.number for alert in alerts] == list(range(1, len(alerts) + 1))


@pytest.mark.medium
def test_a_watch_that_starts_after_the_build_raises_one_alert_per_tracked_event(store: ObjectStore, tmp_path: Path):
    append(writer(store), film(at(5), at(32), CARS))
    build(store, tmp_path, RULES, at(33))
    wanted = {event.event_id for event in read_events(store, folder_settings(tmp_path), DAY)}
    for _ in range(2):
        Watch(store, folder_settings(tmp_path), RULES, lambda: at(33)).look()
    alerts = [alert.event.event_id for alert in read_alerts(store)]
    assert len(alerts) == len(set(alerts))
    assert set(alerts) == wanted
