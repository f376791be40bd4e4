"""A quantized model computes plain integer arithmetic and agrees with its original, or is refused."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, TensorsData

from imgpipeline.errors import PermanentError
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.vision.backends import installed_backends, open_backend
from imgpipeline.vision.decode import DecodedImage
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.precision import choose_precision
from imgpipeline.vision.quantization import (
    QuantizedModel,
    find_convolutions,
    measure_ranges,
    quantize,
    quantize_model,
    read_graph,
)
from imgpipeline.vision.registry import find_model

DICE = np.random.default_rng(3)
BLOB = DICE.uniform(-1, 3, (1, 3, 8, 8)).astype(np.float32)
FIRST = DICE.normal(size=(4, 3, 1, 1)).astype(np.float32)
SECOND = DICE.normal(size=(2, 4, 1, 1)).astype(np.float32)


def ranges_of(**ranges: tuple[float, float]) -> TensorsData:
    return TensorsData(
        CalibrationMethod.MinMax,
        {name: tuple(np.array(end, np.float32) for end in one) for name, one in ranges.items()},
    )


RANGES = ranges_of(images=(-1, 3), hidden=(0, 8))


@pytest.fixture(scope="module")
def network() -> bytes:
    """Two convolutions of 1x1 with a ReLU between them: `first`, `hidden`, `output`."""
    return make_network(13)


def make_network(opset: int) -> bytes:
    constants = [numpy_helper.from_array(FIRST, "w1"), numpy_helper.from_array(SECOND, "w2")]
    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["first"]),
        helper.make_node("Relu", ["first"], ["hidden"]),
        helper.make_node("Conv", ["hidden", "w2"], ["output"]),
    ]
    ends = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8]),
        helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 2, 8, 8]),
    ]
    graph = helper.make_graph(nodes, "two", ends[:1], ends[1:], constants)
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    ).SerializeToString()
    return content


def steps_of_weight(weight: np.ndarray) -> np.ndarray:
    """Round each output channel to 64 steps on either side of zero: the oracle."""
    rounded = []
    for channel in weight:
        step = np.abs(channel).max() / 64
        rounded.append(np.round(channel / step) * step)
    return np.array(rounded, np.float32)


def steps_of_input(values: np.ndarray, low: float, high: float) -> np.ndarray:
    step = (high - low) / 255
    zero = round(-low / step)
    return ((np.clip(np.round(values / step) + zero, 0, 255) - zero) * step).astype(np.float32)


def convolve(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.einsum("oc,bcyx->boyx", weight[:, :, 0, 0], values)


def run(content: bytes) -> np.ndarray:
    return open_backend("onnxruntime", content).infer(BLOB)[0]


def test_all_convolutions_are_found(network):
    assert find_convolutions(read_graph(network)) == ["first", "output"]


def test_a_quantized_network_computes_with_rounded_inputs_and_weights(network):
    hidden = np.maximum(convolve(steps_of_input(BLOB, -1, 3), steps_of_weight(FIRST)), 0)
    expected = convolve(steps_of_input(hidden, 0, 8), steps_of_weight(SECOND))
    made = quantize(read_graph(network), ["first", "output"], RANGES)
    assert run(made) == pytest.approx(expected, abs=1e-4)
    assert run(made) != pytest.approx(run(network), abs=1e-4)
    assert len(made) > 0
    onnx.checker.check_model(onnx.load_from_string(made), full_check=True)


def test_no_sum_of_two_products_exceeds_16_bits(network):
    """Processors without VNNI add the products of two inputs (0 to 255) and weights in 16 bits, and cut off the rest.

    So this property, and not a run on the processor of the test, shows that the results are the same everywhere.
    """
    made = onnx.load_from_string(quantize(read_graph(network), ["first", "output"], RANGES)).graph
    weights = [numpy_helper.to_array(one) for one in made.initializer if one.name in ("w1_quantized", "w2_quantized")]
    most, least = np.iinfo(np.int16).max, np.iinfo(np.int16).min
    assert [(int(one.min()), int(one.max())) for one in weights] == [(-64, 64), (-64, 64)]
    assert all(2 * 255 * int(one.max()) <= most and 2 * 255 * int(one.min()) >= least for one in weights)


@pytest.mark.parametrize("name", ["onnxruntime", "opencv", "openvino"])
def test_every_backend_is_exact_with_the_largest_inputs_and_weights(name):
    """255 times 64, twice: without VNNI, the wider weights of a usual quantization give about half of the result."""
    if name not in installed_backends():
        pytest.skip(f"{name} is not installed")
    constants = [numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")]
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, 4, 8, 8]) for end in ("images", "output")]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w"], ["output"])], "one", ends[:1], ends[1:], constants
    )
    one = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    made = quantize(one, ["output"], ranges_of(images=(0, 255)))
    found = open_backend(name, made).infer(np.full((1, 4, 8, 8), 255, np.float32))[0]
    assert found == pytest.approx(np.full((1, 4, 8, 8), 4 * 255.0), rel=1e-6)


def test_convolutions_that_are_not_chosen_stay_exact(network):
    model = read_graph(network)
    assert run(quantize(model, [], RANGES)) == pytest.approx(run(network), abs=1e-6)
    expected = convolve(steps_of_input(np.maximum(convolve(BLOB, FIRST), 0), 0, 8), steps_of_weight(SECOND))
    assert run(quantize(model, ["output"], RANGES)) == pytest.approx(expected, abs=1e-4)


def test_the_model_itself_is_not_changed(network):
    model = read_graph(network)
    before = model.SerializeToString()
    quantize(model, ["first", "output"], RANGES)
    assert model.SerializeToString() == before


def test_an_older_opset_is_converted(network):
    old = read_graph(make_network(11))
    assert old.opset_import[0].version == 13
    assert run(quantize(old, ["first", "output"], RANGES)) == pytest.approx(
        run(quantize(read_graph(network), ["first", "output"], RANGES)), abs=1e-6
    )


def test_an_opset_that_cannot_be_converted_is_refused():
    """Nothing converts an operator that ONNX does not define."""
    node = helper.make_node("Upsampled", ["x"], ["y"])
    model = helper.make_model(helper.make_graph([node], "unknown", [], []), opset_imports=[helper.make_opsetid("", 9)])
    with pytest.raises(PermanentError, match="ONNX opset 9 cannot be converted") as caught:
        read_graph(model.SerializeToString())
    assert "export the model again" in (caught.value.next_step or "")


def quiet(_title: str) -> Callable[[int, int], None]:
    return lambda _done, _all: None


def load(content: bytes) -> Detector:
    return Detector(find_model("demo"), "", open_backend("onnxruntime", content))


@pytest.fixture(scope="module")
def streets() -> list[DecodedImage]:
    scene = Scene(3, frames=80)
    return [DecodedImage.of(scene.frame(5 * number)[0]) for number in range(16)]


@pytest.fixture(scope="module")
def quantized(demo: bytes, streets: list[DecodedImage]) -> QuantizedModel:
    return quantize_model(demo, streets, load, goal_f1=0.95, stage=quiet)


@pytest.mark.medium
def test_a_quantized_model_reaches_the_goal_and_says_how(quantized, demo):
    assert choose_precision("int8", quantized.content, "demo") == "int8"
    assert 0 <= quantized.kept_float < quantized.convolutions
    assert len(quantized.content) < len(demo)
    assert quantized.calibrated_on == 8
    assert quantized.held_out.images == 4
    assert quantized.held_out.total.reference > 0
    assert quantized.held_out.total.f1 >= 0.9


@pytest.mark.medium
def test_the_same_images_make_the_same_file(quantized, demo, streets):
    """So that its hash says what it is, wherever it was made."""
    assert quantize_model(demo, streets, load, goal_f1=0.95, stage=quiet).content == quantized.content


def test_too_few_images_are_refused(demo, streets):
    with pytest.raises(PermanentError, match="7 images are too few"):
        quantize_model(demo, streets[:7], load, goal_f1=0.95, stage=quiet)


@pytest.mark.medium
def test_a_goal_out_of_reach_is_refused_with_what_was_reached(demo, streets):
    with pytest.raises(
        PermanentError, match=r"F1 against the original, less .*, is [01]\.\d{4} at best; the goal is 1\.01"
    ) as caught:
        quantize_model(demo, streets[:8], load, goal_f1=1.01, stage=quiet)
    assert "--goal" in (caught.value.next_step or "")


def test_a_rare_extreme_value_does_not_widen_the_steps(network):
    blobs = [DICE.uniform(-1, 3, (1, 3, 8, 8)).astype(np.float32) for _ in range(100)]
    blobs[50][0, 0, 0, 0] = 4
    low, high = measure_ranges(read_graph(network), blobs, lambda _done, _all: None)["images"].range_value
    assert low == pytest.approx(-1, abs=0.1)
    assert high == pytest.approx(3, abs=0.1)
