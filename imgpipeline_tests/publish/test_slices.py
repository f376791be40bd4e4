"""Tracks and events of closed slices, and alerts, are published exactly once, wherever a publisher is killed."""

import json
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.detection import Kind
from imgpipeline.events.alerts.chain import AlertChain
from imgpipeline.events.configuration import Rules
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.events import find_events
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.publish.alerts import publish_alerts
from imgpipeline.publish.slices import publish_events, publish_tracks
from imgpipeline.publish.transactions import Form, Publication, Run
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.daily.builds import build_table, build_tracks
from imgpipeline_tests.events.samples import CROSSES, LOITERS, ROAD, STOP, at, rules
from imgpipeline_tests.events.test_alert_chain import NOW, event
from imgpipeline_tests.ledger.samples import DAY, NOON, append, write_chain
from imgpipeline_tests.publish.killing import publish_and_die
from imgpipeline_tests.publish.reading import documents_of, records_of
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.tracking.films import Car, film

CARS = rules('[[rule]]\nname = "two cars"\nkind = "count"\nabove = 1\nbridge_s = 5\n')
LATER = NOON + timedelta(hours=1)


@pytest.fixture
def settings(kafka: KafkaBroker, tmp_path: Path) -> Settings:
    return load_settings(kafka_bootstrap_servers=kafka.bootstrap_servers, store_url=f"file://{tmp_path}/store")


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


def build(store: ObjectStore, given: Rules = CARS) -> None:
    rebuild_day(store, DAY, now=NOON)
    build_table(store, DAY, EVENTS, rules=given, settings=Settings(), now=NOON)


def two_cars_at(*minutes: int) -> list[Car]:
    """Return a car that stays, and others that pass by for ten seconds."""
    return [Car(at(0), at(59)), *(Car(at(minute, 30), at(minute, 40), y=300) for minute in minutes)]


def second(number: float) -> datetime:
    return NOON + timedelta(seconds=number)


def build_with_tracks(store: ObjectStore, settings: Settings) -> None:
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=settings, now=NOON)


@pytest.mark.slow
@pytest.mark.medium
def test_events_are_published_when_their_ten_minutes_are_over(store, settings, topic):
    cars = two_cars_at(2, 9, 12)
    chain = write_chain(store, film(at(0), at(10, 30), cars))
    build(store)
    assert publish_events(Run(store, settings, clock=lambda: NOON), topic) == 0, "the overlap has no frames yet"
    append(chain, film(at(10, 30), at(13), cars, offset=126))
    waiting: list[date] = []
    assert publish_events(Run(store, settings, clock=lambda: LATER, on_waiting=waiting.append), topic) == 0
    assert waiting == [], "slices of the table are open until it has all frames of the ledger"
    rebuild_day(store, DAY, now=NOON)
    assert publish_events(Run(store, settings, clock=lambda: LATER, on_waiting=waiting.append), topic) == 0
    assert waiting == [DAY], "no events of these frames yet"
    build(store)
    assert publish_events(Run(store, settings, clock=lambda: NOON), topic) == 2
    assert publish_events(Run(store, settings, clock=lambda: LATER), topic) == 1, "nothing came for a while"
    assert publish_events(Run(store, settings, clock=lambda: LATER), topic) == 0
    rows = find_events(store, settings, Span(DAY, DAY))[0].to_pylist()[::-1]
    records = records_of(settings, topic)
    found = [json.loads(record.value) for record in records]
    assert [document["event_id"] for document in found] == [row["event_id"] for row in rows]
    assert {**found[0], "timestamp": rows[0]["timestamp"], "started_at": rows[0]["started_at"],
            "ended_at": rows[0]["ended_at"], "day": DAY} == rows[0]  # fmt: skip
    assert (found[0]["timestamp"], found[0]["reason"]) == ("2026-01-09T12:02:30.000000Z", "2 objects")
    assert (records[0].key, dict(records[0].headers)["id"].decode()) == (b"gate", found[0]["event_id"])


@pytest.mark.slow
@pytest.mark.medium
def test_events_of_tracked_objects_wait_for_the_tracks_of_the_same_frames(store, settings, topic):
    given = rules(ROAD + STOP + LOITERS + CROSSES)
    chain = write_chain(store, film(at(5), at(20), [Car(at(5), at(25))]))
    build_with_tracks(store, settings)
    append(chain, film(at(20), at(25), [Car(at(5), at(25))], offset=180))
    build(store, given)
    waiting: list[date] = []
    assert publish_events(Run(store, settings, clock=lambda: LATER, on_waiting=waiting.append), topic) == 0
    assert waiting == [DAY], "the tracks are older than the frames"
    build_tracks(store, DAY, settings=Settings(), now=NOON)
    build(store, given)
    assert publish_events(Run(store, settings, clock=lambda: LATER), topic) == 2
    assert [document["rule"] for document in documents_of(settings, topic)] == ["loiters", "crosses"]


@pytest.mark.medium
def test_an_alert_is_published_with_its_number_and_the_path_of_its_record(store, settings, topic):
    assert publish_alerts(Run(store, settings), topic) == 0
    chain = AlertChain(store)
    for number in (1, 2, 3):
        chain.append(event(number), difference_image=None, now=NOW)
    assert publish_alerts(Run(store, settings), topic) == 3
    chain.append(event(4), difference_image=None, now=NOW)
    assert publish_alerts(Run(store, settings), topic) == 1
    found = documents_of(settings, topic)
    assert found[0] == {"image_event_num": 1, "image_event_db_path": f"{store.url}/alerts/0000000001.json"}
    assert [document["image_event_num"] for document in found] == [1, 2, 3, 4]
    record = json.loads(store.get(found[3]["image_event_db_path"].removeprefix(f"{store.url}/")))
    assert record["event_id"] == event(4).event_id


@pytest.mark.medium
def test_classic_tracks_have_true_corners_and_every_frame(store, settings, topic):
    write_chain(
        store,
        film(second(0), second(5), [Car(second(1), second(4)), Car(second(0), second(5), "person", y=300)], rate=1),
    )
    build_with_tracks(store, settings)
    wanted = Publication(topic, Form.CLASSIC, Kind.CARS)
    assert publish_tracks(Run(store, settings, clock=lambda: NOON), wanted) == 0, "the slice is still open"
    assert publish_tracks(Run(store, settings, clock=lambda: LATER), wanted) == 5
    assert publish_tracks(Run(store, settings, clock=lambda: LATER), wanted) == 0
    found = documents_of(settings, topic)
    assert [len(document["tracks"]) for document in found] == [0, 1, 1, 1, 0]
    assert found[1] == {
        "frame_id": "frame_00001",
        "video_id": "gate",
        "timestamp": "2026-01-09T12:00:01+00:00",
        "tracks": [{"track_id": 1, "bbox": [10.0, 100.0, 90.0, 160.0], "confidence": 0.9, "class_id": 0}],
    }


@pytest.mark.slow
def test_a_slice_is_published_when_there_are_frames_after_its_overlap(store, settings, topic):
    car = Car(second(0), second(1300))
    chain = write_chain(store, film(second(0), second(640), [car]))
    build_with_tracks(store, settings)
    wanted = Publication(topic)
    assert publish_tracks(Run(store, settings, clock=lambda: NOON), wanted) == 0
    append(chain, film(second(640), second(1250), [car], offset=128))
    assert publish_tracks(Run(store, settings, clock=lambda: LATER), wanted) == 0, "no tracks of these frames yet"
    build_with_tracks(store, settings)
    assert publish_tracks(Run(store, settings, clock=lambda: NOON), wanted) == 120
    assert publish_tracks(Run(store, settings, clock=lambda: LATER), wanted) == 130
    found = documents_of(settings, topic)
    assert [document["frame_number"] for document in found] == list(range(250))
    assert len({track["object_id"] for document in found for track in document["tracks"]}) == 1


@pytest.mark.slow
def test_a_publisher_of_tracks_that_is_killed_leaves_no_duplicate_and_no_hole(store, settings, topic):
    write_chain(store, film(second(0), second(1250), [Car(second(0), second(1300))]))
    build_with_tracks(store, settings)
    publish_and_die(settings, "batch sent:2", "tracks", "--topic", topic)
    publish_tracks(Run(store, settings, clock=lambda: LATER), Publication(topic))
    assert [document["frame_number"] for document in documents_of(settings, topic)] == list(range(250))
