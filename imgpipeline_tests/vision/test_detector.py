"""A detector finds the same objects on every backend, and refuses damaged files."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.model import ChosenDetector, parse_detectors
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.vision import registry
from imgpipeline.vision.adding import Wishes, add_model
from imgpipeline.vision.agreement import iou_of
from imgpipeline.vision.backends import installed_backends, open_backend
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.decode import DecodedImage, ImageLimits, decode_image
from imgpipeline.vision.detector import Detector, load_detector, self_test
from imgpipeline_tests.examples import examples
from imgpipeline_tests.vision.pictures import detailed_picture
from imgpipeline_tests.vision.tiny_networks import write_network

SCORE_TOLERANCE = 1e-4
BOX_TOLERANCE_PX = 0.05
LIMITS = ImageLimits(max_pixels=10**7, max_bytes=10**7)


@pytest.fixture
def pictures(shared_data) -> dict[str, np.ndarray]:
    paths = (shared_data / "images").glob("*.jpg")
    return {path.stem: decode_image(path.read_bytes(), LIMITS).pixels for path in paths}


@pytest.fixture
def load_yolox(shared_data):
    path = shared_data / "models" / "yolox_nano.onnx"
    return lambda **options: load_detector(str(path), decoder="yolox", **options)


@pytest.mark.medium
def test_a_real_model_finds_the_objects_in_real_pictures(backend, load_yolox, pictures):
    detector = load_yolox(backend=backend)
    dog = {d.label: d for d in detector.detect(pictures["dog"])}
    assert {"dog", "bicycle"} < set(dog)
    assert {"car", "truck"} & set(dog)
    assert {d.label for d in detector.detect(pictures["person"])} == {"person", "dog", "horse"}
    x, y, w, h = dog["dog"].box_xywh
    assert (x, y, x + w, y + h) == pytest.approx((131, 220, 310, 541), abs=20), "where a person would draw it"


@pytest.mark.medium
def test_all_backends_find_the_same_in_real_pictures(load_yolox, pictures):
    """Scores within 1e-4, boxes within 0.05 pixels, in the same order."""
    detectors = [load_yolox(backend=name, confidence_threshold=0.3) for name in installed_backends()]
    for pixels in (*pictures.values(), cv2.resize(pictures["dog"], (1920, 1080))):
        check_same_detections(detectors, pixels)


def test_all_backends_find_the_same_in_a_simulated_scene():
    detectors = [load_detector("demo", backend=name) for name in installed_backends()]
    check_same_detections(detectors, SCENE)


def check_same_detections(detectors: list[Detector], pixels: np.ndarray) -> None:
    expected, *others = [detector.detect(pixels) for detector in detectors]
    assert expected, "the case is degenerate"
    for found in others:
        assert [d.label for d in found] == [d.label for d in expected]
        scores, boxes = [d.confidence for d in expected], [d.box_xywh for d in expected]
        np.testing.assert_allclose([d.confidence for d in found], scores, rtol=0, atol=SCORE_TOLERANCE)
        np.testing.assert_allclose([d.box_xywh for d in found], boxes, rtol=0, atol=BOX_TOLERANCE_PX)


def test_boxes_lie_inside_the_picture_and_scores_above_the_threshold(load_small):
    detector = load_small(confidence_threshold=0.2, nms_threshold=0.9)
    for shape in ((64, 96), (1, 1), (7, 900), (900, 7)):
        found = detector.detect(detailed_picture(shape[1], shape[0]))
        assert found, "the case is degenerate"
        for detection in found:
            x, y, w, h = detection.box_xywh
            assert min(x, y) >= 0
            assert min(w, h) > 0
            assert x + w <= shape[1] + 1e-3
            assert y + h <= shape[0] + 1e-3
            assert 0.2 < detection.confidence <= 1
        assert [d.confidence for d in found] == sorted((d.confidence for d in found), reverse=True)


def test_threads_do_not_disturb_each_other(backend, load_small):
    detector = load_small(backend=backend, confidence_threshold=0.4, threads=1)
    pictures = [detailed_picture(301 - 40 * seed, 107 + 40 * seed, seed) for seed in range(6)]
    expected = [detector.detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, pictures * 12)) == expected * 12


def test_a_detector_says_what_it_is(load_small, small_onnx):
    detector = load_small(backend="auto", nms_threshold=0.6)
    assert detector.model_name == "small"
    assert len(detector.model_sha256) == 64
    assert (detector.confidence_threshold, detector.nms_threshold, detector.nms_per_class) == (0.5, 0.6, False)
    assert detector.backend_name == installed_backends()[0] == "onnxruntime"
    assert load_small(nms_per_class=True, confidence_threshold=0.1).nms_per_class


def test_a_threshold_of_zero_is_not_taken_for_none(load_small):
    assert load_small(confidence_threshold=0.0).confidence_threshold == 0.0


def test_an_unknown_backend_names_the_setting():
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_MODEL_BACKEND"):
        load_detector("demo", backend="tensorrt")


def test_every_backend_refuses_a_file_that_is_not_a_model(backend):
    for content in (b"", b"no model", b"\x08\x08" * 50):
        with pytest.raises(PermanentError, match=f"The backend {backend} cannot read the model"):
            open_backend(backend, content)


def test_a_failed_call_does_not_break_the_next_one(backend, load_small):
    detector, picture = load_small(backend=backend, confidence_threshold=0.2), detailed_picture()
    expected = detector.detect(picture)
    with pytest.raises(PermanentError, match="failed to run the model"):
        detector.backend.infer(np.zeros((1, 3, 1, 1), np.float32))
    assert detector.detect(picture) == expected


@pytest.fixture
def copied_demo(tmp_path, monkeypatch):
    """The registered demo model in a folder where it can be damaged."""
    original = registry.registry_path()
    for name in ("registry.toml", "demo.onnx"):
        shutil.copy(original.with_name(name), tmp_path)
    monkeypatch.setattr(registry, "registry_path", lambda: tmp_path / "registry.toml")
    return tmp_path / "demo.onnx"


def test_a_damaged_model_file_is_refused(copied_demo):
    content = bytearray(copied_demo.read_bytes())
    content[len(content) // 2] ^= 1
    copied_demo.write_bytes(content)
    with pytest.raises(PermanentError, match="is damaged: its sha256 is"):
        load_detector("demo")


def test_a_missing_shipped_model_is_said_plainly(copied_demo):
    copied_demo.unlink()
    with pytest.raises(ConfigurationError, match="missing, although it is shipped"):
        load_detector("demo")


def test_the_self_test_detects_a_model_file_that_was_damaged_after_loading(copied_demo):
    detector = load_detector("demo")
    self_test(detector)
    copied_demo.write_bytes(copied_demo.read_bytes()[:-1])
    with pytest.raises(PermanentError, match="damaged"):
        self_test(detector)
    copied_demo.unlink()
    with pytest.raises(PermanentError, match="cannot be read"):
        self_test(detector)


def test_the_self_test_detects_a_replaced_model_file_of_the_user(small_onnx, tmp_path):
    path = shutil.copy(small_onnx, tmp_path / "mine.onnx")
    detector = load_detector(str(path), decoder="yolov4", labels=["a", "b", "c"])
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(PermanentError, match="was changed since it was loaded"):
        self_test(detector)


@pytest.mark.parametrize("output", [np.full((1, 10, 8), np.nan), np.zeros((1, 10, 8)), np.zeros((1, 10, 4))])
def test_the_self_test_detects_a_network_that_returns_nonsense(load_small, output):
    detector = load_small()
    detector.backend = Answers([output.astype(np.float32)])
    with pytest.raises(PermanentError):
        self_test(detector)


PICTURE = np.zeros((416, 416, 3), np.uint8)


class Answers:
    """A backend that answers the same boxes and scores for every picture."""

    name = "answers"

    def __init__(self, outputs: list[np.ndarray]) -> None:
        self.outputs = outputs

    def infer(self, _blob: np.ndarray) -> list[np.ndarray]:
        return self.outputs


@pytest.fixture(scope="module")
def spec():
    return replace(load_detector("demo", threads=1).spec, decoder="yolov4")


def outputs(seed: int, count: int, classes: int) -> list[np.ndarray]:
    """Return corners and scores of boxes that overlap a lot; many scores are equal."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 0.6, (count, 2)), rng.uniform(0.1, 0.4, (count, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    scores = rng.choice(np.linspace(0, 1, 21), (count, classes)).astype(np.float32)
    return [boxes.reshape(1, count, 1, 4), scores.reshape(1, count, classes)]


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 80),
    thresholds=st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.sampled_from([0.1, 0.15, 0.3, 0.45, 0.7])),
    nms=st.sampled_from([0.2, 0.4, 0.7]),
    per_class=st.booleans(),
)
@settings(max_examples=examples(100))
def test_keeping_weak_detections_changes_no_strong_one(spec, seed, count, thresholds, nms, per_class):
    threshold, weak_above = thresholds
    answers = Answers(outputs(seed, count, len(spec.labels)))
    detector = Detector(
        spec, "", answers, confidence_threshold=threshold, nms_threshold=nms, nms_per_class=per_class
    )  # fmt: skip
    alone = detector.detect(PICTURE)

    strong, weak = detector.detect_with_weak(PICTURE, weak_above)

    assert strong == alone
    assert all(np.float32(weak_above) < np.float32(each.confidence) <= np.float32(threshold) for each in weak)
    assert [each.confidence for each in weak] == sorted((each.confidence for each in weak), reverse=True)
    rivals = [(one, other) for one in weak for other in strong if not per_class or one.label == other.label]
    assert all(iou_of(one, other) <= nms + 1e-3 for one, other in rivals)


def test_a_weak_box_next_to_a_strong_one_is_found_and_one_that_overlaps_it_is_not(spec):
    boxes = np.array([[0, 0, 0.3, 0.3], [0, 0, 0.3, 0.28], [0.5, 0.5, 0.9, 0.9], [0.1, 0.6, 0.3, 0.9]], np.float32)
    scores = np.zeros((4, len(spec.labels)), np.float32)
    scores[:, 0] = 0.9, 0.4, 0.3, 0.1
    detector = Detector(spec, "", Answers([boxes.reshape(1, 4, 1, 4), scores[None]]), confidence_threshold=0.5)
    strong, weak = detector.detect_with_weak(PICTURE, 0.1)
    assert [round(each.confidence, 3) for each in strong] == [0.9]
    assert [round(each.confidence, 3) for each in weak] == [0.3]


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
