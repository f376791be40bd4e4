"""Classic messages about people come from any registered detector, by the labels that it has."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from imgpipeline.contracts.detection import Kind
from imgpipeline.publish.detections import publish_detections
from imgpipeline.publish.run import Form, Publication, Run
from imgpipeline.vision import registry
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg
from imgpipeline_tests.detect.conftest import lane as lane  # noqa: PLC0414 - a fixture
from imgpipeline_tests.publish.reading import documents_of


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
def test_people_of_a_second_registered_detector_are_published(
    lane: LaneUnderTest, second_detector: str, make_topic: Callable[..., str]
):
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
