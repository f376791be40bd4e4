"""A quantized model agrees with its original in 32-bit floats, or is refused."""

from collections.abc import Callable

import numpy as np
import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.vision.backends import open_backend
from imgpipeline.vision.decode import DecodedImage
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.model_files import read_verified
from imgpipeline.vision.precision import choose_precision
from imgpipeline.vision.quantization import (
    QuantizedModel,
    Range,
    measure_ranges,
    narrow,
    quantize_model,
    read_graph,
)
from imgpipeline.vision.registry import find_model
from imgpipeline_tests.vision.quantization.test_graph import BLOB, FIRST, convolve, make_network


def quiet(_title: str) -> Callable[[int, int], None]:
    return lambda _done, _all: None


def load(content: bytes) -> Detector:
    return Detector(find_model("demo"), "", open_backend("onnxruntime", content))


@pytest.fixture(scope="module")
def demo() -> bytes:
    return read_verified(find_model("demo"))[0]


@pytest.fixture(scope="module")
def streets() -> list[DecodedImage]:
    scene = Scene(3, frames=80)
    return [DecodedImage.of(scene.frame(5 * number)[0]) for number in range(16)]


@pytest.fixture(scope="module")
def quantized(demo: bytes, streets: list[DecodedImage]) -> QuantizedModel:
    return quantize_model(demo, streets, load, goal_f1=0.95, stage=quiet)


@pytest.mark.medium
def test_a_quantized_model_reaches_the_goal_and_says_how(quantized: QuantizedModel, demo: bytes):
    assert choose_precision("int8", quantized.content, "demo") == "int8"
    assert 0 <= quantized.kept_float < quantized.convolutions
    assert len(quantized.content) < len(demo)
    assert quantized.calibrated_on == 8
    assert quantized.held_out.images == 4
    assert quantized.held_out.total.reference > 0
    assert quantized.held_out.total.f1 >= 0.9


@pytest.mark.medium
def test_the_same_images_make_the_same_file(quantized: QuantizedModel, demo: bytes, streets: list[DecodedImage]):
    """So that its hash says what it is, wherever it was made."""
    assert quantize_model(demo, streets, load, goal_f1=0.95, stage=quiet).content == quantized.content


def test_too_few_images_are_refused(demo: bytes, streets: list[DecodedImage]):
    with pytest.raises(PermanentError, match="7 images are too few"):
        quantize_model(demo, streets[:7], load, goal_f1=0.95, stage=quiet)


@pytest.mark.medium
def test_a_goal_out_of_reach_is_refused_with_what_was_reached(demo: bytes, streets: list[DecodedImage]):
    with pytest.raises(
        PermanentError, match=r"F1 against the original, less .*, is [01]\.\d{4} at best; the goal is 1\.01"
    ) as caught:
        quantize_model(demo, streets[:8], load, goal_f1=1.01, stage=quiet)
    assert "--goal" in (caught.value.next_step or "")


def test_ranges_hold_what_the_layers_read():
    found = measure_ranges(
        read_graph(make_network(13)), ["first", "output"], [BLOB, 2 * BLOB], lambda _done, _all: None
    )
    hidden = np.maximum(convolve(BLOB, FIRST), 0)
    assert set(found) == {"images", "hidden"}
    assert found["hidden"].low == 0
    assert 0.3 * 2 * hidden.max() < found["hidden"].high <= 2 * hidden.max() + 1e-5
    assert found["images"].low < 0 < found["images"].high


def test_a_rare_extreme_value_is_cut_off_and_an_even_range_is_kept():
    even = np.linspace(0, 1, 2000, dtype=np.float32)
    assert narrow(Range(0, 1), even) == Range(0, 1)
    assert narrow(Range(0, 1), np.append(np.tile(even * 0.3, 100), np.float32(1))).high < 1
