"""Several detectors, each for its labels: every object counts once, and each detection names its detector."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.model import ChosenDetector, parse_detectors
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.vision.adding import Wishes, add_model
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.decode import DecodedImage
from imgpipeline.vision.detector import self_test
from imgpipeline_tests.vision.tiny_networks import write_network

SCENE = Scene(5, hour=12.0).frame(20)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model `yard` that finds one van, one person and one weak van in every image."""
    found = np.array([[[4, 4, 30, 20, 0.8, 0], [30, 4, 50, 30, 0.9, 1], [2, 2, 9, 9, 0.3, 0]]], np.float32)
    folder = tmp_path_factory.mktemp("models")
    path = write_network(folder / "export.onnx", {"output0": found}, metadata={"names": "['van', 'person']"})
    add_model(path, "yard", Wishes(), model_dir=folder, replace_it=False)
    return folder


@pytest.fixture
def configured(folder):
    def with_detectors(detectors: str | None, **more: object) -> Settings:
        return load_settings(detectors=detectors, model_dir=folder, **more)

    return with_detectors


def test_each_detector_finds_its_labels_and_is_named_by_its_number(configured):
    group = load_configured_detector(configured("demo: person, bicycle; yard: van"))
    found = group.detect(SCENE)
    alone = load_configured_detector(configured(None)).detect(SCENE)
    assert [(d.label, d.box_xywh) for d in found if d.detector == 0] == [
        (d.label, d.box_xywh) for d in alone if d.label in ("person", "bicycle")
    ]
    assert [d.label for d in found if d.detector == 1] == ["van"]
    assert {"person", "van"} <= {d.label for d in found} <= {"person", "bicycle", "van"}
    assert {d.label for d in alone} - {d.label for d in found}, "the case is degenerate"
    scores = [d.confidence for d in found]
    assert scores == sorted(scores, reverse=True)
    assert [use.model_name for use in group.uses] == ["demo", "yard"]
    assert [member.model_name for member in group.members] == ["demo", "yard"]
    self_test(group)


def test_weak_detections_come_from_the_detector_of_their_label_too(configured):
    group = load_configured_detector(configured("demo: car; yard: van"))
    _, weak = group.detect_with_weak(SCENE, 0.2)
    assert [(d.label, d.detector, round(d.confidence, 3)) for d in weak if d.detector == 1] == [("van", 1, 0.3)]


def test_a_detector_without_labels_finds_all_of_its_labels(configured):
    assert {d.label for d in load_configured_detector(configured("yard")).detect(SCENE)} == {"van", "person"}


def test_an_image_is_decoded_large_enough_for_every_network(configured):
    group = load_configured_detector(configured("yard: van; demo: car"))
    assert (group.network_input.width, group.network_input.height) == (416, 416)
    assert group.detect(DecodedImage.of(SCENE))


@pytest.mark.parametrize(
    ("detectors", "said"),
    [
        ("demo: car; yard: lorry", "asks 'yard' for 'lorry', but its labels are van, person"),
        ("demo; yard", "Both 'demo' and 'yard' detect 'person'"),
        ("demo: car; nowhere: van", "no model is registered under that name"),
    ],
    ids=["no such label", "label twice", "no such model"],
)
def test_what_would_count_wrongly_is_refused_at_the_start(detectors, said, configured):
    with pytest.raises(ConfigurationError, match=said):
        load_configured_detector(configured(detectors))


def test_the_self_test_tests_every_network(folder, configured):
    group = load_configured_detector(configured("demo: car; yard: van"))
    path, content = folder / "yard.onnx", (folder / "yard.onnx").read_bytes()
    path.write_bytes(content + b"\0")
    try:
        with pytest.raises(PermanentError, match="yard"):
            self_test(group)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    "text",
    ["a: x; a: y", "a: x; b: x", ": x", "a: x,", "a;;b", ";"],
    ids=["model twice", "label twice", "no model", "empty label", "empty part", "nothing"],
)
def test_a_setting_of_another_form_is_refused(text):
    with pytest.raises((ValidationError, ConfigurationError), match=r"(?i)detectors"):
        load_settings(detectors=text)


_NAMES = st.text("abcdefgh-0123456789 ", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.lists(st.tuples(_NAMES, st.lists(_NAMES, max_size=3)), min_size=1, max_size=4))
def test_a_choice_written_as_a_setting_is_read_back(chosen):
    labels = [label for _, names in chosen for label in names]
    models = [model for model, _ in chosen]
    text = " ; ".join(f"{model}: {' , '.join(names)}" if names else model for model, names in chosen)
    if len(set(labels)) < len(labels) or len(set(models)) < len(models):
        with pytest.raises(ValueError, match="twice"):
            parse_detectors(text)
    else:
        assert parse_detectors(text) == tuple(ChosenDetector(model, tuple(names)) for model, names in chosen)
