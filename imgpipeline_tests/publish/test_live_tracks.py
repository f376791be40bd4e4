"""Provisional tracks are those of builds so far, and each frame has them exactly once, wherever a publisher dies."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.detection import Detection, Kind
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.objectstore import open_store
from imgpipeline.publish.live_tracks import LiveTracks, publish_live_tracks
from imgpipeline.publish.transactions import Form, Publication, Run
from imgpipeline.settings import Settings, load_settings
from imgpipeline.tracking.following import follow_slice
from imgpipeline_tests.ledger.samples import DAY, NOON, append, frame, notice, write_chain
from imgpipeline_tests.publish.killing import publish_and_die
from imgpipeline_tests.publish.reading import documents_of
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.tracking.films import Car, film
from imgpipeline_tests.tracking.scenes import parameters, street


@pytest.fixture
def settings(kafka: KafkaBroker, tmp_path: Path) -> Settings:
    return load_settings(kafka_bootstrap_servers=kafka.bootstrap_servers, store_url=f"file://{tmp_path}/store")


def cars(start_s: float, end_s: float, *, offset: int = 0) -> list[Frame]:
    """Return frames of two cars, five a second."""
    whole = [Car(NOON, NOON + timedelta(minutes=30)), Car(NOON, NOON + timedelta(minutes=30), y=300)]
    return film(NOON + timedelta(seconds=start_s), NOON + timedelta(seconds=end_s), whole, rate=5, offset=offset)


def as_frames(seed: int) -> list[Frame]:
    """Return the frames of a scene with people that walk past pillars."""
    return [
        replace(
            frame(n, DAY, "gate"),
            timestamp=NOON + timedelta(seconds=n / 10),
            detections=tuple(
                Detection("person", 0, 0.9, (float(x1), float(y1), float(x2 - x1), float(y2 - y1)))
                for x1, y1, x2, y2 in each.boxes_xyxy
            ),
        )
        for n, each in enumerate(street(seed, objects=20, duration_s=60).frames)
    ]


@pytest.mark.medium
def test_live_tracks_are_those_of_the_build():
    frames = as_frames(3)
    live = LiveTracks(load_settings())
    named = {(n, each.box_xywh): each.track_id for n, one in enumerate(frames) for each in live.take(one)}
    built = follow_slice(street(3, objects=20, duration_s=60).frames, [], parameters())
    shares = []
    for track in built:
        boxes = [(point.frame, frames[point.frame].detections[point.detection].box_xywh) for point in track.points]
        names = Counter(named[box] for box in boxes if box in named)
        assert len(names) == 1, "a built track is one live track"
        shares.append(names.total() / len(boxes))
    assert len(built) > 30
    assert sum(shares) / len(shares) > 0.75, "the others are of the first half second"


@pytest.mark.medium
def test_a_new_process_continues_the_tracks_of_the_slice():
    frames = as_frames(4)
    whole, first, second = (LiveTracks(load_settings()) for _ in range(3))
    expected = [[each.track_id for each in whole.take(one)] for one in frames]
    for one in frames[:300]:
        first.take(one)
        second.remember(one)
    assert [[each.track_id for each in second.take(one)] for one in frames[300:]] == expected[300:]


def test_an_outage_ends_tracks_and_a_late_frame_has_none():
    live = LiveTracks(load_settings())
    (before, *_) = [live.take(one) for one in cars(0, 4)][-1]
    assert live.take(cars(1, 1.2)[0]) == []
    live.cut(replace(notice(0, DAY), source="gate", kind="offline"))
    (after, *_) = [live.take(one) for one in cars(4, 8)][-1]
    assert before.track_id != after.track_id


def test_a_new_slice_begins_new_tracks_with_higher_numbers():
    live = LiveTracks(load_settings())
    numbers = [sorted(each.number for each in live.take(one)) for one in cars(590, 610)]
    assert (numbers[40], numbers[-1]) == ([720_001, 720_002], [730_001, 730_002])


@pytest.mark.medium
def test_frames_are_published_at_once_with_provisional_tracks(settings, topic):
    store = open_store(settings)
    chain = write_chain(store, cars(0, 4))
    assert publish_live_tracks(Run(store, settings), Publication(topic)) == 20
    append(chain, cars(4, 6, offset=20))
    assert publish_live_tracks(Run(store, settings), Publication(topic)) == 10
    found = documents_of(settings, topic)
    assert [(one["frame_number"], one["provisional"]) for one in found] == [(n, True) for n in range(30)]
    assert {len(one["tracks"]) for one in found[10:]} == {2}
    names = {each["track_id"] for one in found for each in one["tracks"]}
    assert names == {"gate/car/20260109T1200/live-1", "gate/car/20260109T1200/live-2"}


@pytest.mark.slow
@pytest.mark.parametrize("step", ["batch sent:2", "batch committed"])
def test_a_killed_publisher_of_live_tracks_leaves_no_duplicate_and_no_hole(settings, topic, step):
    store = open_store(settings)
    chain = write_chain(store, cars(0, 4))
    for start in range(4, 24, 4):
        append(chain, cars(start, start + 4, offset=5 * start))
    classic = ("--format", "classic", "--kind", "cars", "--live")
    if "2" in step:
        publish_live_tracks(Run(store, settings), Publication(topic, Form.CLASSIC, Kind.CARS))
        append(chain, cars(24, 28, offset=120))
        step = "batch sent"
    publish_and_die(settings, step, "tracks", "--topic", topic, *classic)
    publish_live_tracks(Run(store, settings), Publication(topic, Form.CLASSIC, Kind.CARS))
    found = documents_of(settings, topic)
    assert [one["frame_id"] for one in found] == [f"frame_{n:05d}" for n in range(len(found))]
    assert len(found) in (120, 140)
    assert {each["track_id"] for one in found for each in one["tracks"]} == {720_001, 720_002}
