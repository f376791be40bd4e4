"""The shipped demo model: the file is the documented one, and it really finds what the simulator draws."""

import hashlib
import re
from collections import Counter
from pathlib import Path

import onnx
import pytest

from imgpipeline.sources.simulator.scene import FIRST_TRAINING_SEED, Scene
from imgpipeline.sources.simulator.truth import LABELS, countable, score_of
from imgpipeline.vision.agreement import Score
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.registry import find_model

MODELS = Path(__file__).parents[2] / "models"
MODEL = MODELS / "demo.onnx"
HELD_OUT = range(1000, 1100)
NIGHT, DAY = 1.0, 12.0


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("demo", backend="onnxruntime")


def total_score(detector: Detector, seeds: range, *, step: int, hour: float | None = None) -> Score:
    total = Score()
    for seed in seeds:
        scene = Scene(seed, hour=hour)
        for number in range(0, len(scene), step):
            image, truth = scene.frame(number)
            total += score_of(detector.detect(image), truth)
    return total


def test_the_file_is_small_enough_to_be_shipped():
    assert MODEL.stat().st_size <= 2_000_000


def test_the_file_is_the_one_that_the_readme_and_the_registry_describe():
    documented = re.search(r"\b[0-9a-f]{64}\b", (MODELS / "README.md").read_text(encoding="utf-8"))

    sha256 = hashlib.sha256(MODEL.read_bytes()).hexdigest()

    assert documented is not None
    assert documented[0] == sha256
    assert find_model("demo").sha256 == sha256
    assert find_model("demo").labels == LABELS


def test_the_model_has_the_layout_that_its_decoder_reads():
    model = onnx.load(MODEL)
    [given], [answer] = model.graph.input, model.graph.output

    assert given.name == "images"
    assert [d.dim_value for d in given.type.tensor_type.shape.dim] == [1, 3, 416, 416]
    assert [d.dim_value for d in answer.type.tensor_type.shape.dim] == [1, 52**2 + 26**2 + 13**2, 5 + len(LABELS)]
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]


@pytest.mark.slow
def test_recall_and_precision_are_at_least_99_percent_on_100_held_out_scenes(detector):
    assert HELD_OUT.stop <= FIRST_TRAINING_SEED

    score = total_score(detector, HELD_OUT, step=10)

    assert score.reference > 2500
    assert score.recall >= 0.99
    assert score.precision >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("hour", [NIGHT, DAY])
def test_it_sees_by_night_as_by_day(hour, detector):
    score = total_score(detector, HELD_OUT, step=30, hour=hour)

    assert score.reference > 800
    assert score.recall >= 0.99
    assert score.precision >= 0.99


@pytest.mark.medium
def test_an_empty_street_is_empty(detector):
    streets = [Scene(seed, objects=0).frame(0)[0] for seed in range(200, 240)]

    assert sum(len(detector.detect(street)) for street in streets) <= 1


@pytest.mark.slow
def test_counts_over_a_few_scenes_are_near_the_truth_for_every_label(detector):
    found: Counter[str] = Counter()
    real: Counter[str] = Counter()
    for seed in range(300, 306):
        for image, truth in Scene(seed):
            found.update(d.label for d in detector.detect(image))
            real.update(t.label for t in truth if countable(t))

    assert set(found) <= set(LABELS)
    for label in LABELS:
        assert found[label] == pytest.approx(real[label], rel=0.05)
