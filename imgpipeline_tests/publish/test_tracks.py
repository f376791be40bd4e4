"""Tracks of closed slices are published exactly once, in native and classic form."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.detection import Kind
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.publish.run import Form, Publication, Run
from imgpipeline.publish.slices import publish_tracks
from imgpipeline.settings import Settings, load_settings
from imgpipeline.tracking.day_tracks import build_tracks
from imgpipeline_tests.ledger.samples import DAY, NOON, append, write_chain
from imgpipeline_tests.publish.killing import STEPS, publish_and_die
from imgpipeline_tests.publish.reading import documents_of
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.tracking.films import Car, film

AT = datetime(2026, 1, 9, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


@pytest.fixture
def settings(kafka: KafkaBroker, tmp_path: Path) -> Settings:
    return load_settings(kafka_bootstrap_servers=kafka.bootstrap_servers, store_url=f"file://{tmp_path}/store")


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


def build(store: ObjectStore, settings: Settings) -> None:
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=settings, now=NOON)


@pytest.mark.medium
def test_classic_tracks_have_true_corners_and_every_frame(store: ObjectStore, settings: Settings, topic: str):
    write_chain(store, film(at(0), at(5), [Car(at(1), at(4)), Car(at(0), at(5), "person", y=300)], rate=1))
    build(store, settings)
    wanted = Publication(topic, Form.CLASSIC, Kind.CARS)
    assert publish_tracks(Run(store, settings, clock=lambda: NOON), wanted) == 0, "the slice is still open"
    assert publish_tracks(Run(store, settings, clock=lambda: NOON + timedelta(hours=1)), wanted) == 5
    assert publish_tracks(Run(store, settings, clock=lambda: NOON + timedelta(hours=1)), wanted) == 0
    found = documents_of(settings, topic)
    assert [len(document["tracks"]) for document in found] == [0, 1, 1, 1, 0]
    assert found[1] == {
        "frame_id": "frame_00001",
        "video_id": "gate",
        "timestamp": "2026-01-09T12:00:01+00:00",
        "tracks": [{"track_id": 1, "bbox": [10.0, 100.0, 90.0, 160.0], "confidence": 0.9, "class_id": 0}],
    }


@pytest.mark.slow
def test_a_slice_is_published_when_there_are_frames_after_its_overlap(
    store: ObjectStore, settings: Settings, topic: str
):
    car = Car(at(0), at(1300))
    chain = write_chain(store, film(at(0), at(640), [car]))
    build(store, settings)
    wanted = Publication(topic)
    assert publish_tracks(Run(store, settings, clock=lambda: NOON), wanted) == 0
    append(chain, film(at(640), at(1250), [car], offset=128))
    later = NOON + timedelta(hours=1)
    assert publish_tracks(Run(store, settings, clock=lambda: later), wanted) == 0, "no tracks of these frames yet"
    build(store, settings)
    assert publish_tracks(Run(store, settings, clock=lambda: NOON), wanted) == 120
    assert publish_tracks(Run(store, settings, clock=lambda: later), wanted) == 130
    found = documents_of(settings, topic)
    assert [document["frame_number"] for document in found] == list(range(250))
    assert len({track["object_id"] for document in found for track in document["tracks"]}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_publisher_of_tracks_that_is_killed_leaves_no_duplicate_and_no_hole(
    store: ObjectStore, settings: Settings, topic: str, step: str
):
    write_chain(store, film(at(0), at(1250), [Car(at(0), at(1300))]))
    build(store, settings)
    publish_and_die(settings, "tracks", topic, step if step == "publish opened" else f"{step}:2")
    publish_tracks(Run(store, settings, clock=lambda: NOON + timedelta(hours=1)), Publication(topic))
    assert [document["frame_number"] for document in documents_of(settings, topic)] == list(range(250))
