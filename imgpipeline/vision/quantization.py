"""Quantizes a model to 8-bit integers: static, per channel, calibrated on the user's own images.

Only convolutions are quantized, because they take nearly all of a detector's time. In the graph (the QDQ form), the
input of each passes through QuantizeLinear and DequantizeLinear (uint8, one scale), and its weights are int8 with one
scale per output channel, from -64 to 64, so results do not depend on the processor (`precision.MOST_WEIGHT`). Outputs
stay floats, so the activation functions after a convolution are exact, and backends fuse them.

The inputs of the layers are measured for their ranges, the layers are ranked by sensitivity, and the most sensitive
ones stay in 32-bit floats until the detections agree with the goal.

Source: ONNX operators QuantizeLinear and DequantizeLinear, opset 13.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from imgpipeline.errors import PermanentError
from imgpipeline.vision.agreement import Agreement, measure_agreement
from imgpipeline.vision.backends import open_backend
from imgpipeline.vision.decode import DecodedImage
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.precision import MOST_WEIGHT
from imgpipeline.vision.preprocess import make_blob

_OPSET: Final = 13
"""The first opset in which weights can have one scale per channel."""
_LEVELS: Final = 255
FEWEST_IMAGES: Final = 8
"""With fewer images, the parts for calibration, choice and report would be too small."""
_RANKED_ON: Final = 4
"""Number of images on which the sensitivity of each layer is measured."""
_FLOAT_SHARES: Final = (0.0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8)
"""Shares of the layers that stay in 32-bit floats, in the order in which they are tried."""
_LEAST_SCORE: Final = 0.01
_SAMPLES: Final = 2000
"""Approximate number of values that are kept per tensor and image."""
_SHARES: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Shares of the full range that are tried."""
_SCORES: Final = 100
"""Number of an image's highest scores that are compared."""

Progress = Callable[[int, int], None]
"""Called with the number of finished steps and of all steps."""
Stage = Callable[[str], Progress]
"""Called when a stage begins, with its name; returns the callback for its progress."""


@dataclass(frozen=True, slots=True)
class Range:
    """The range of the values of a tensor; it always includes 0."""

    low: float
    """Lowest value, <= 0."""
    high: float
    """Highest value, >= 0."""

    @property
    def scale(self) -> float:
        """Value of one step of uint8."""
        return (self.high - self.low) / _LEVELS or 1.0

    @property
    def zero_point(self) -> int:
        """The step that represents 0."""
        return int(np.clip(round(-self.low / self.scale), 0, _LEVELS))

    def round(self, values: Floats) -> Floats:
        """Returns values as rounded by uint8."""
        steps = np.clip(np.round(values / self.scale) + self.zero_point, 0, _LEVELS)
        return np.asarray((steps - self.zero_point) * self.scale, np.float32)


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """A model in 8-bit integers, and its agreement with the original."""

    content: bytes
    """The ONNX file."""
    convolutions: int
    kept_float: int
    """Number of convolutions that stayed in 32-bit floats."""
    calibrated_on: int
    """Number of images from which the ranges were measured."""
    held_out: Agreement
    """Agreement with 32-bit floats, on images that were not used to make the model."""


def quantize_model(
    content: bytes,
    images: Sequence[DecodedImage],
    load: Callable[[bytes], Detector],
    *,
    goal_f1: float,
    stage: Stage,
) -> QuantizedModel:
    """Quantizes a model.

    Half of the images calibrate the ranges. These and another quarter decide which layers stay in 32-bit floats. The
    last quarter is used only for the report.

    Args:
        content: The ONNX file, in 32-bit floats.
        images: In order of time, because neighbours are assumed to be similar.
        load: Returns a detector for an ONNX file.
        goal_f1: Required F1 against 32-bit floats, in [0, 1].
        stage: Called with the name of each stage.

    Raises:
        PermanentError: There are too few images, the model has no layers to quantize, or the goal is out of reach.
    """
    if len(images) < FEWEST_IMAGES:
        raise PermanentError(
            f"{len(images)} images are too few to calibrate a model; at least {FEWEST_IMAGES} are needed, and 200 "
            "are better.",
            next_step="give more images of your own cameras with --images",
        )
    model = read_graph(content)
    convolutions = find_convolutions(model)
    if not convolutions:
        raise PermanentError(
            "The model has no convolution with constant 32-bit weights, so there is nothing to quantize.",
            next_step="choose a model in 32-bit floats that is not quantized yet",
        )
    exact = load(content)
    calibrating = [*images[0::4], *images[2::4]]
    blobs = [make_blob(image, exact.spec)[0] for image in calibrating]
    ranges = measure_ranges(model, convolutions, blobs, stage("Calibrating"))
    few = calibrating[:: math.ceil(len(calibrating) / _RANKED_ON)]
    ranking = rank_by_sensitivity(
        lambda chosen: load(quantize(model, chosen, ranges)), convolutions, few, stage("Measuring layers")
    )

    def make(kept: int) -> bytes:
        return quantize(model, set(ranking[kept:]), ranges)

    kept = _choose(exact, [*calibrating, *images[1::4]], lambda kept: load(make(kept)), len(ranking), goal_f1, stage)
    found = load(made := make(kept))
    report = measure_agreement((exact.detect(image), found.detect(image)) for image in images[3::4])
    return QuantizedModel(made, len(convolutions), kept, len(calibrating), report)


def _choose(
    exact: Detector,
    images: Sequence[DecodedImage],
    load: Callable[[int], Detector],
    layers: int,
    goal_f1: float,
    stage: Stage,
) -> int:
    """Returns how many layers have to stay in 32-bit floats; `load` returns a detector with that number of them.

    The goal has to be exceeded by the standard error of F1, so that it also holds on other images.
    """
    progress = stage("Choosing layers")
    expected = [exact.detect(image) for image in images]
    best = 0.0
    for tried, share in enumerate(_FLOAT_SHARES, 1):
        kept = math.ceil(share * layers)
        agreement = measure_agreement(zip(expected, map(load(kept).detect, images), strict=True))
        progress(tried, len(_FLOAT_SHARES))
        if agreement.total.cautious_f1 >= goal_f1:  # on few images, a lower F1 reaches the goal by chance
            return kept
        best = max(best, agreement.total.cautious_f1)
    raise PermanentError(
        f"With up to {_FLOAT_SHARES[-1]:.0%} of the layers in 32-bit floats, F1 against the original, less its "
        f"standard error on these images, is {best:.4f} at best; the goal is {goal_f1}.",
        next_step="give more images of your own cameras, or lower the goal with --goal",
    )


def measure_ranges(
    model: onnx.ModelProto, convolutions: Sequence[str], blobs: Sequence[Floats], progress: Progress
) -> dict[str, Range]:
    """Finds the ranges that round the inputs of convolutions with the least error.

    A rare extreme value would make all steps wider, so a range may exclude it.

    Returns:
        The range of each tensor that the convolutions read, by its name.

    Raises:
        PermanentError: The model cannot be run.
    """
    names = inputs_of(model, convolutions)
    inputs = {value.name for value in model.graph.input}
    inner = [name for name in names if name not in inputs]
    backend = open_backend("onnxruntime", with_outputs(model, inner), threads=None)
    full, samples = dict.fromkeys(names, Range(0.0, 0.0)), {name: list[Floats]() for name in names}
    for done, blob in enumerate(blobs, 1):
        outputs = dict(zip(backend.output_names, backend.infer(blob), strict=True))
        for name in names:
            values = outputs.get(name, blob).ravel()
            full[name] = Range(min(full[name].low, float(values.min())), max(full[name].high, float(values.max())))
            samples[name].append(values[:: max(1, values.size // _SAMPLES)].copy())
        progress(done, len(blobs))
    return {name: narrow(full[name], np.concatenate(samples[name])) for name in names}


def narrow(full: Range, values: Floats) -> Range:
    """Returns the part of a range that rounds the given values with the least mean squared error."""
    candidates = [Range(full.low * low, full.high * high) for high in _SHARES for low in {1.0, high}]
    return min(candidates, key=lambda one: float(np.square(one.round(values) - values).mean()))


def rank_by_sensitivity(
    load: Callable[[Sequence[str]], Detector],
    convolutions: Sequence[str],
    images: Sequence[DecodedImage],
    progress: Progress,
) -> list[str]:
    """Sorts convolutions by how much the scores change if only that one is quantized, the most sensitive first.

    `load` returns a detector in which the given convolutions are quantized.

    Raises:
        PermanentError: The model cannot be run.
    """
    exact = _highest_scores(load([]), images)
    errors: dict[str, float] = {}
    for name in convolutions:
        errors[name] = float(np.abs(_highest_scores(load([name]), images) - exact).mean())
        progress(len(errors), len(convolutions))
    return sorted(convolutions, key=lambda name: -errors[name])


def _highest_scores(detector: Detector, images: Sequence[DecodedImage]) -> Floats:
    """Returns the highest scores of each image, sorted, so the order of the boxes does not matter."""
    found = np.zeros((len(images), _SCORES), np.float32)
    for row, image in zip(found, images, strict=True):
        strong, weak = detector.detect_with_weak(image, _LEAST_SCORE)
        scores = sorted((one.confidence for one in (*strong, *weak)), reverse=True)[:_SCORES]
        row[: len(scores)] = scores
    return found


def read_graph(content: bytes) -> onnx.ModelProto:
    """Reads a model, converted to an opset that can be quantized per channel.

    Raises:
        PermanentError: The model has an older opset and cannot be converted.
    """
    model = onnx.load_from_string(content)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset >= _OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, _OPSET)
    except Exception as error:
        raise PermanentError(
            f"The model's ONNX opset {opset} cannot be converted to {_OPSET}: {error}.",
            next_step=f"export the model again with opset {_OPSET} or later",
        ) from error


def find_convolutions(model: onnx.ModelProto) -> list[str]:
    """Returns the convolutions with constant float weights, by the names of their outputs."""
    weights = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    return [node.output[0] for node in model.graph.node if node.op_type == "Conv" and node.input[1] in weights]


def inputs_of(model: onnx.ModelProto, convolutions: Collection[str]) -> list[str]:
    """Returns the tensors that convolutions read, each once."""
    found = (node.input[0] for node in model.graph.node if node.op_type == "Conv" and node.output[0] in convolutions)
    return list(dict.fromkeys(found))


def with_outputs(model: onnx.ModelProto, names: Collection[str]) -> bytes:
    """Returns the model with inner tensors as additional outputs, after its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    content: bytes = copy.SerializeToString()
    return content


def quantize(model: onnx.ModelProto, convolutions: Collection[str], ranges: Mapping[str, Range]) -> bytes:
    """Returns a copy of a model from `read_graph` with some convolutions in 8-bit integers.

    Convolutions are named by their outputs; `ranges` has the range of each tensor that they read.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    rewriter = _Rewriter({name: numpy_helper.to_array(tensor) for name, tensor in weights.items()}, ranges)
    nodes = [made for node in graph.node for made in rewriter.rewrite(node, convolutions)]
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *rewriter.constants])
    content: bytes = copy.SerializeToString(deterministic=True)
    return content


class _Rewriter:
    """Makes the nodes before quantized convolutions, once per tensor."""

    def __init__(self, weights: Mapping[str, np.ndarray], ranges: Mapping[str, Range]) -> None:
        self.constants: list[onnx.TensorProto] = []
        self._weights = weights
        self._ranges = ranges
        self._made: set[str] = set()

    def rewrite(self, node: onnx.NodeProto, convolutions: Collection[str]) -> Iterator[onnx.NodeProto]:
        """Yields the nodes that a node needs, then the node itself."""
        made = onnx.NodeProto()
        made.CopyFrom(node)
        if node.op_type == "Conv" and node.output[0] in convolutions:
            data, weight = node.input[0], node.input[1]
            if data not in self._made:
                yield from self._quantize_input(data)
            if weight not in self._made:
                yield self._quantize_weight(weight)
            self._made |= {data, weight}
            made.input[0], made.input[1] = f"{data}.int8.float", f"{weight}.int8.float"
        yield made

    def _quantize_input(self, name: str) -> Iterator[onnx.NodeProto]:
        values = self._ranges[name]
        self._add(f"{name}.int8.scale", np.array(values.scale, np.float32))
        self._add(f"{name}.int8.zero", np.array(values.zero_point, np.uint8))
        rule = [f"{name}.int8.scale", f"{name}.int8.zero"]
        yield helper.make_node("QuantizeLinear", [name, *rule], [f"{name}.int8"])
        yield helper.make_node("DequantizeLinear", [f"{name}.int8", *rule], [f"{name}.int8.float"])

    def _quantize_weight(self, name: str) -> onnx.NodeProto:
        weight = self._weights[name]
        scales = np.abs(weight).reshape(len(weight), -1).max(axis=1) / MOST_WEIGHT
        scales[scales == 0] = 1
        steps = np.round(weight / scales.reshape(-1, *[1] * (weight.ndim - 1)))
        self._add(f"{name}.int8", np.clip(steps, -MOST_WEIGHT, MOST_WEIGHT).astype(np.int8))
        self._add(f"{name}.int8.scale", scales.astype(np.float32))
        self._add(f"{name}.int8.zero", np.zeros(len(weight), np.int8))
        inputs = [f"{name}.int8", f"{name}.int8.scale", f"{name}.int8.zero"]
        return helper.make_node("DequantizeLinear", inputs, [f"{name}.int8.float"], axis=0)

    def _add(self, name: str, values: np.ndarray) -> None:
        self.constants.append(numpy_helper.from_array(values, name))
