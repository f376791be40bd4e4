"""Live alerts match the events of the daily table, in any order of looks, restarts and kills."""

import contextlib
import itertools
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgpipeline.errors import TransientError
from imgpipeline.events.alerts.chain import read_alerts
from imgpipeline.events.alerts.watching import LiveDay, Watch
from imgpipeline.events.configuration import Rules
from imgpipeline.events.evaluate import evaluate
from imgpipeline.events.reading import read_events
from imgpipeline.events.values import SeenFrame, SeenObject
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import EVENT_TABLES, EVENTS
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.events.samples import (
    CHANGE,
    CROSSES,
    LOITERS,
    NOON,
    ROAD,
    STOP,
    ZONE,
    at,
    rotated,
    rules,
    stored_frames,
)
from imgpipeline_tests.examples import examples
from imgpipeline_tests.lake.samples import LABELS, detection
from imgpipeline_tests.ledger.faulty_store import FaultyStore
from imgpipeline_tests.ledger.samples import CHAIN, DAY, append, writer
from imgpipeline_tests.ledger.samples import frame as sample
from imgpipeline_tests.objectstore.stores import folder_settings
from imgpipeline_tests.tracking.films import Car, film

LATER = NOON + timedelta(minutes=1)
CROWD = '[[rule]]\nname = "crowd"\nkind = "count"\nabove = 1\ncooldown_s = 4\n'
RULES = (
    ZONE.replace("0.5", "0").replace("[1, 1], [0, 1]", "[1, 0.5], [0, 0.5]")
    + CHANGE
    + CROWD
    + '[[rule]]\nname = "in the yard"\nkind = "zone_occupancy"\nzone = "yard"\nlabels = ["person"]\n'
    + '[[rule]]\nname = "empty"\nkind = "absence"\nseconds = 1\nlabels = ["dog"]\n'
)


OBJECT_RULES = CROWD + (
    '[[rule]]\nname = "long"\nkind = "count"\nabove = 0\nseconds = 2\nbridge_s = 1\n'
    '[[rule]]\nname = "nobody"\nkind = "absence"\nseconds = 1\ncooldown_s = 3\n'
)


def watch(store: ObjectStore, tmp_path: Path, now: datetime = LATER) -> Watch:
    return Watch(store, folder_settings(tmp_path), rules(RULES), lambda: now)


def make_frames(store: ObjectStore):
    """Store ten images of which two differ from the one before, with 0 to 3 objects each."""
    cycle = itertools.cycle(LABELS)
    return [
        replace(frame, detections=tuple(detection(next(cycle)) for _ in range(frame.offset % 4)))
        for frame in stored_frames(store, rotated())
    ]


def daily_ids(store: ObjectStore, tmp_path: Path) -> set[str]:
    """Build the day's tables and return the ids of its events."""
    settings, given = folder_settings(tmp_path), rules(RULES)
    rebuild_day(store, DAY, now=NOON)
    for table in EVENT_TABLES:
        build_table(store, DAY, table, rules=given, settings=settings, now=LATER)
    return {event.event_id for event in read_events(store, settings, DAY)}


@pytest.mark.medium
def test_live_alerts_match_the_events_of_the_day_and_a_change_has_its_images(store, tmp_path):
    chain, live = writer(store), watch(store, tmp_path)
    assert live.look() == []
    for frame in make_frames(store):
        append(chain, [frame])
        live.look()
    alerts = list(read_alerts(store))
    assert {alert.event.rule for alert in alerts} == {"changed", "crowd", "in the yard", "empty"}
    assert {alert.event.event_id for alert in alerts} == daily_ids(store, tmp_path)
    assert [alert.number for alert in alerts] == list(range(1, len(alerts) + 1))
    changes = [alert for alert in alerts if alert.event.rule == "changed"]
    assert [[name for name, _ in alert.images] for alert in changes] == [["before", "after", "difference"]] * 2
    assert all(store.head(path) for alert in changes for _, path in alert.images)


def test_a_restarted_watch_raises_only_missing_alerts(store, tmp_path):
    chain, frames = writer(store), make_frames(store)
    append(chain, frames[:5])
    first = watch(store, tmp_path).look()
    append(chain, frames[5:])
    second = watch(store, tmp_path).look()
    assert first
    assert second
    assert list(read_alerts(store)) == first + second
    assert watch(store, tmp_path).look() == []


def test_old_events_raise_no_alert(store, tmp_path):
    append(writer(store), make_frames(store))
    assert watch(store, tmp_path, NOON + timedelta(hours=2)).look() == []


@pytest.mark.parametrize("fault", ["not stored", "answer lost", "lost against itself"])
def test_an_event_gets_its_alert_after_a_failure_of_the_store(fault, tmp_path):
    store = FaultyStore()
    live = Watch(store, folder_settings(tmp_path), rules(CROWD), lambda: LATER)
    append(writer(store), make_frames(store))
    store.faults["table"] = [fault] * 2
    for _ in range(3):
        with contextlib.suppress(TransientError):
            live.look()
    alerts = list(read_alerts(store))
    assert [alert.number for alert in alerts] == [1, 2]
    assert len({alert.event.event_id for alert in alerts}) == 2


def test_a_start_reuses_the_comparisons_of_the_stored_table(store, tmp_path):
    """Frames that Dagster has compared are not read again: a start late in the day costs no images."""
    frames = make_frames(store)
    append(writer(store), frames)
    wanted = daily_ids(store, tmp_path)
    for frame in frames:
        store.delete(frame.source_image_path)
    assert {alert.event.event_id for alert in watch(store, tmp_path).look()} == wanted


@pytest.mark.medium
def test_an_idle_watch_ends(store, tmp_path):
    append(writer(store), make_frames(store))
    ticks = itertools.count()
    live = Watch(store, folder_settings(tmp_path), rules(RULES), lambda: LATER + timedelta(seconds=next(ticks)))
    looks = list(live.run(threading.Event(), idle_s=5))
    assert looks[0]
    assert not any(looks[1:])


@given(
    order=st.one_of(st.just(list(range(14))), st.permutations(range(14))),
    objects=st.lists(st.integers(0, 3), min_size=14, max_size=14),
    looks=st.sets(st.integers(1, 13)),
)
@example(order=list(range(14)), objects=[0, 2, 2, 0, 1, 1, 3, 3, 0, 0, 2, 0, 0, 0], looks={1, 2, 5, 8, 9, 12})
@settings(max_examples=examples(60), deadline=None)
def test_frames_in_any_order_and_looks_at_any_time_find_every_event_of_the_day(order, objects, looks):
    """Frames in order add events to those before; a late frame may also take an event away, whose alert stays."""
    frames = [
        replace(sample(n), timestamp=NOON + timedelta(seconds=n), detections=(detection("person"),) * objects[n])
        for n in range(14)
    ]
    given_rules, zone = rules(OBJECT_RULES), UTC
    live = LiveDay(given_rules, Settings(), ImageReader(open_memory_store(), Settings()))
    found: set[str] = set()
    for count, number in enumerate(order):
        if count in looks:
            found |= {event.event_id for event in live.find_events()}
        live.add(CHAIN, frames[number])
    found |= {event.event_id for event in live.find_events()}
    seen = [SeenFrame(f.frame_id, f.source, f.timestamp, f.source_image_path, (640, 480), tuple(
        SeenObject(each.label, each.confidence, each.box_xywh) for each in f.detections
    )) for f in frames]  # fmt: skip
    wanted = {event.event_id for rule in given_rules.rule for event in evaluate(given_rules, rule, zone, frames=seen)}
    assert wanted <= found
    assert list(order) != sorted(order) or wanted == found


SEEN = '[[rule]]\nname = "seen"\nkind = "zone_occupancy"\nzone = "road"\n'
TRACKED_RULES = rules(ROAD + STOP + LOITERS.replace("seconds = 900", "seconds = 60") + CROSSES + SEEN)
CARS = [Car(at(5), at(25)), Car(at(7), at(24), y=300.0), Car(at(14), at(31), y=20.0)]
MINUTES = (5, 9, 12, 17, 21, 23, 32)


def build_tracked(store: ObjectStore, tmp_path: Path, given: Rules, now: datetime) -> None:
    """Build what automation builds after frames have arrived."""
    settings = folder_settings(tmp_path)
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=settings, now=now)
    build_table(store, DAY, EVENTS, rules=given, settings=settings, now=now)


@pytest.mark.slow
@pytest.mark.medium
def test_dwelling_and_crossing_raise_alerts_after_each_build_and_other_rules_before(store, tmp_path):
    live = Watch(store, folder_settings(tmp_path), TRACKED_RULES, lambda: at(33))
    chain, frames = writer(store), film(at(5), at(32), CARS)
    before: list[str] = []
    after: list[str] = []
    for first, last in itertools.pairwise(MINUTES):
        append(chain, [frame for frame in frames if at(first) <= frame.timestamp < at(last)])
        before += [alert.event.rule for alert in live.look()]
        build_tracked(store, tmp_path, TRACKED_RULES, at(last))
        after += [alert.event.rule for alert in live.look()]
    assert set(before) == {"seen"}
    assert set(after) == {"loiters", "crosses"}
    alerts = list(read_alerts(store))
    events = read_events(store, folder_settings(tmp_path), DAY)
    assert sorted(alert.event.event_id for alert in alerts) == sorted(event.event_id for event in events)
    assert [alert.number for alert in alerts] == list(range(1, len(alerts) + 1))


@pytest.mark.medium
def test_a_watch_that_starts_after_the_build_raises_one_alert_per_tracked_event(store, tmp_path):
    append(writer(store), film(at(5), at(32), CARS))
    build_tracked(store, tmp_path, TRACKED_RULES, at(33))
    wanted = {event.event_id for event in read_events(store, folder_settings(tmp_path), DAY)}
    for _ in range(2):
        Watch(store, folder_settings(tmp_path), TRACKED_RULES, lambda: at(33)).look()
    alerts = [alert.event.event_id for alert in read_alerts(store)]
    assert len(alerts) == len(set(alerts))
    assert set(alerts) == wanted
