"""Detections are published exactly once, in native and classic form, wherever a publisher is killed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgpipeline.contracts.detection import Detection, Kind
from imgpipeline.contracts.keys import segment_key
from imgpipeline.contracts.outcomes import Frame, FrameStatus, Outcome
from imgpipeline.errors import ConfigurationError
from imgpipeline.ledger.follow import LostCheckpointError
from imgpipeline.ledger.reading import find_end
from imgpipeline.objectstore import open_store
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.publish.detections import publish_detections
from imgpipeline.publish.transactions import Form, Publication, Run
from imgpipeline.settings import Settings, load_settings
from imgpipeline.stream.send import FencedError
from imgpipeline.vision import registry
from imgpipeline_tests.detect.conftest import jpeg
from imgpipeline_tests.detect.conftest import lane as lane  # noqa: PLC0414 - a fixture
from imgpipeline_tests.ledger.samples import CHAIN, append, dead_letter, frame, frames, gap, write_chain, writer
from imgpipeline_tests.ledger.test_follow import fill, repair_chain
from imgpipeline_tests.publish.killing import STEPS, publish_and_die
from imgpipeline_tests.publish.reading import documents_of, records_of
from imgpipeline_tests.servers.kafka_broker import KafkaBroker


@pytest.fixture
def settings(kafka: KafkaBroker, tmp_path: Path) -> Settings:
    return load_settings(kafka_bootstrap_servers=kafka.bootstrap_servers, store_url=f"file://{tmp_path}/store")


def offsets_of(settings: Settings, topic: str) -> list[int]:
    return [document["source_kafka_offset"] for document in documents_of(settings, topic)]


def seen(offset: int, *labels: str) -> Frame:
    box = (10.6, 20.2, 30.0, 40.5)
    return replace(frame(offset), detections=tuple(Detection(label, 1, 0.75, box) for label in labels))


def test_each_frame_is_one_record_with_its_source_as_key(settings, memory, topic):
    write_chain(memory, [gap(0, 2), seen(2, "car"), dead_letter(3)], frames(4, 6))
    assert publish_detections(Run(memory, settings), Publication(topic)) == 3
    records = records_of(settings, topic)
    assert [json.loads(record.value) for record in records] == [seen(2, "car").to_json(), *map(_json, (4, 5))]
    assert {record.key for record in records} == {b"cam-1"}
    assert dict(records[0].headers) == {"day": b"2026-01-09", "id": frame(2).frame_id.encode()}


def _json(offset: int) -> dict[str, Any]:
    return frame(offset).to_json()


def test_a_later_call_continues_after_the_checkpoint(settings, memory, topic):
    chain = write_chain(memory, frames(0, 3))
    assert publish_detections(Run(memory, settings), Publication(topic)) == 3
    assert publish_detections(Run(memory, settings), Publication(topic)) == 0
    append(chain, frames(3, 5))
    assert publish_detections(Run(memory, settings), Publication(topic)) == 2
    assert offsets_of(settings, topic) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("kind", "labels", "kept"),
    [
        pytest.param(Kind.CARS, ("car", "van", "truck", "person", "bus"), ["car", "van", "truck"], id="row_2_7"),
        pytest.param(Kind.PEOPLE, ("pedestrian", "people", "car"), ["pedestrian", "people"], id="row_2_8"),
    ],
)
def test_classic_detections_of_cars_and_people(settings, memory, topic, kind, labels, kept):
    gated = replace(frame(2), status=FrameStatus.GATED, gate_reason="dark")
    write_chain(memory, [seen(0, *labels), seen(1, "dog"), gated])
    publish_detections(Run(memory, settings), Publication(topic, Form.CLASSIC, kind))
    assert documents_of(settings, topic) == [
        {
            "frame_id": "frame_00000",
            "video_id": "cam-1",
            "timestamp": "2026-01-09T12:00:00+00:00",
            "detections": [{"label": label, "confidence": 0.75, "bbox": [10, 20, 40, 60]} for label in kept],
        },
        {
            "frame_id": "frame_00001",
            "video_id": "cam-1",
            "timestamp": "2026-01-09T12:00:00.001000+00:00",
            "detections": [],
        },
    ]


def test_classic_records_name_video_and_frame_as_their_producer_did(settings, memory, topic):
    given = {"video_id": "uav-7", "frame_id": 42}
    write_chain(memory, [replace(frame(0), attributes=given), replace(frame(1), attributes={"frame_id": None})])
    publish_detections(Run(memory, settings), Publication(topic, Form.CLASSIC))
    named = [(document["video_id"], document["frame_id"]) for document in documents_of(settings, topic)]
    assert named == [("uav-7", 42), ("cam-1", "frame_00001")]


def test_a_frame_that_was_announced_twice_is_published_once(settings, memory, topic):
    def again(offset: int) -> list[Outcome]:
        return [replace(frame(1), offset=offset)]

    chain = write_chain(memory, frames(0, 3), again(3))
    publish_detections(Run(memory, settings), Publication(topic))
    append(chain, again(4))
    publish_detections(Run(memory, settings), Publication(topic))
    assert offsets_of(settings, topic) == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_publisher_that_is_killed_leaves_no_duplicate_and_no_hole(settings, topic, step):
    chain = write_chain(open_store(settings), frames(0, 3))
    assert publish_detections(Run(open_store(settings), settings), Publication(topic)) == 3
    append(chain, frames(3, 6))
    publish_and_die(settings, step, "detections", "--topic", topic)
    append(chain, frames(6, 8))
    publish_detections(Run(open_store(settings), settings), Publication(topic))
    assert offsets_of(settings, topic) == list(range(8))


def test_the_older_of_two_publishers_is_fenced_off(settings, memory, topic):
    chain = write_chain(memory, frames(0, 2))

    def other_takes_over() -> bool:
        append(chain, frames(2, 4))
        publish_detections(Run(memory, settings), Publication(topic))
        append(chain, frames(4, 6))
        return True

    with pytest.raises(FencedError, match="taken over"):
        publish_detections(Run(memory, settings, should_continue=other_takes_over), Publication(topic))
    publish_detections(Run(memory, settings), Publication(topic))
    assert offsets_of(settings, topic) == list(range(6))


def test_cars_and_people_share_a_topic_without_fencing_each_other(settings, memory, topic):
    write_chain(memory, [seen(0, "car", "person")])
    for kind in Kind:
        publish_detections(Run(memory, settings), Publication(topic, Form.CLASSIC, kind))
    found = [document["detections"][0]["label"] for document in documents_of(settings, topic)]
    assert found == ["car", "person"]


def test_another_ledger_is_not_published_after_the_checkpoint_of_the_first(settings, topic):
    first, second = open_memory_store(), open_memory_store()
    write_chain(first, frames(0, 3))
    write_chain(second, frames(0, 3), chain=replace(CHAIN, topic_id="another"))
    publish_detections(Run(first, settings), Publication(topic))
    with pytest.raises(LostCheckpointError):
        publish_detections(Run(second, settings), Publication(topic))
    assert offsets_of(settings, topic) == [0, 1, 2]


def test_the_topic_of_the_frames_and_a_missing_one_are_refused(settings, memory, make_topic):
    with pytest.raises(ConfigurationError, match="would be read as frames"):
        publish_detections(Run(memory, settings), Publication(settings.kafka_topic))
    with pytest.raises(ConfigurationError, match="absent"):
        publish_detections(Run(memory, settings), Publication("absent"))


def test_what_a_repair_rewrites_is_not_published_again(settings, memory, topic):
    fill(memory, CHAIN, 4)
    publish_detections(Run(memory, settings), Publication(topic))
    memory.put(segment_key(CHAIN, 1), b"damaged")
    repair_chain(memory, CHAIN)
    append(writer(memory), frames(4, 6))
    assert publish_detections(Run(memory, settings), Publication(topic)) == 2
    assert offsets_of(settings, topic) == list(range(6))


def test_a_chain_that_a_repair_shortened_is_published_from_its_old_end_on(settings, memory, topic):
    fill(memory, CHAIN, 2, length=3)
    publish_detections(Run(memory, settings), Publication(topic))
    memory.put(segment_key(CHAIN, 3), b"damaged")
    repair_chain(memory, CHAIN)
    assert find_end(memory, CHAIN).offset == 4
    append(writer(memory), frames(4, 5))
    assert publish_detections(Run(memory, settings), Publication(topic)) == 0
    append(writer(memory), frames(5, 8))
    assert publish_detections(Run(memory, settings), Publication(topic)) == 2
    assert offsets_of(settings, topic) == list(range(8))


@pytest.fixture
def second_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A second entry in the registry, with labels of aerial images: the demo's person and bicycle have other names."""
    shipped = registry.registry_path()
    shutil.copy(shipped.with_name("demo.onnx"), tmp_path)
    text = shipped.read_text()
    entry = text[text.index("[models.demo]") : text.index("[models.yolox-nano]")]
    renamed = entry.replace("models.demo", "models.aerial").replace('"person", "bicycle"', '"pedestrian", "people"')
    (tmp_path / "registry.toml").write_text(text + "\n" + renamed)
    monkeypatch.setattr(registry, "registry_path", lambda: tmp_path / "registry.toml")
    return "aerial"


@pytest.mark.medium
def test_people_of_a_second_registered_detector_are_published(lane, second_detector, make_topic):
    lane = lane.with_settings(model=second_detector)
    lane.put_image("images/camera/one.jpg", jpeg())  # three cars, two bicycles, a person
    lane.announce(2)
    lane.follow()
    assert {frame.model_used for frame in lane.frames()} == {second_detector}
    people, cars = make_topic(), make_topic()
    for topic, kind in ((people, Kind.PEOPLE), (cars, Kind.CARS)):
        assert publish_detections(Run(lane.store, lane.settings), Publication(topic, Form.CLASSIC, kind)) == 2
    for document in documents_of(lane.settings, people):
        assert sorted(found["label"] for found in document["detections"]) == ["pedestrian", "people", "people"]
        assert all(len(found["bbox"]) == 4 for found in document["detections"])
    for document in documents_of(lane.settings, cars):
        assert [found["label"] for found in document["detections"]] == ["car"] * 3
