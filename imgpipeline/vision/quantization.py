"""Quantizes a model to 8-bit integers: static, per channel, calibrated on the user's own images.

Only convolutions are quantized, because they take nearly all of a detector's time. In the graph (the QDQ form), the
input of each passes through QuantizeLinear and DequantizeLinear (uint8, one scale), and its weights are int8 with one
scale per output channel, from -64 to 64, so results do not depend on the processor (`precision.MOST_WEIGHT`). Outputs
stay floats, so the activation functions after a convolution are exact, and backends fuse them.

ONNX Runtime measures the ranges of the layers' inputs and rewrites the graph. This module ranks the layers by
sensitivity; the most sensitive ones stay in 32-bit floats until the detections agree with the goal.
"""

import contextlib
import io
import math
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData
from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator

from imgpipeline.errors import PermanentError
from imgpipeline.vision.agreement import Agreement, measure_agreement
from imgpipeline.vision.decode import DecodedImage
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.preprocess import make_blob

_OPSET: Final = 13
"""The first opset in which weights can have one scale per channel."""
FEWEST_IMAGES: Final = 8
"""With fewer images, the parts for calibration, choice and report would be too small."""
_RANKED_ON: Final = 4
"""Number of images on which the sensitivity of each layer is measured."""
_FLOAT_SHARES: Final = (0.0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8)
"""Shares of the layers that stay in 32-bit floats, in the order in which they are tried."""
_LEAST_SCORE: Final = 0.01
_PERCENTILE: Final = 99.99
"""Share of a tensor's values within its range."""
_SCORES: Final = 100
"""Number of an image's highest scores that are compared."""

Progress = Callable[[int, int], None]
"""Called with the number of finished steps and of all steps."""
Stage = Callable[[str], Progress]
"""Called when a stage begins, with its name; returns the callback for its progress."""


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
    ranges = measure_ranges(model, blobs, stage("Calibrating"))
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


def measure_ranges(model: onnx.ModelProto, blobs: Sequence[Floats], progress: Progress) -> TensorsData:
    """Returns the ranges of the tensors that convolutions read, without the rarest extreme values.

    A rare extreme value would make all steps wider.

    Raises:
        PermanentError: The model cannot be run.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    name = next(value.name for value in model.graph.input if value.name not in constants)
    # The calibrator prints what it does.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        calibrator = create_calibrator(
            path,
            ["Conv"],
            str(path.with_stem("with_outputs")),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"percentile": _PERCENTILE},
        )
        for done, blob in enumerate(blobs, 1):
            calibrator.collect_data(_OneInput({name: blob}))  # one by one: it keeps all tensors of a call in memory
            progress(done, len(blobs))
        return calibrator.compute_data()


class _OneInput(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    def __init__(self, values: Mapping[str, Floats]) -> None:
        self._values = [dict(values)]

    def get_next(self) -> dict[str, Floats] | None:
        return self._values.pop() if self._values else None


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
    """Reads a model, converted to an opset that can be quantized per channel; convolutions are named by their outputs.

    Raises:
        PermanentError: The model has an older opset and cannot be converted.
    """
    model = onnx.load_from_string(content)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    try:
        if opset < _OPSET:
            model = onnx.version_converter.convert_version(model, _OPSET)
    except Exception as error:
        raise PermanentError(
            f"The model's ONNX opset {opset} cannot be converted to {_OPSET}: {error}.",
            next_step=f"export the model again with opset {_OPSET} or later",
        ) from error
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.name = node.output[0]
    return model


def find_convolutions(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the convolutions with constant float weights."""
    weights = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    return [node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] in weights]


def quantize(model: onnx.ModelProto, convolutions: Collection[str], ranges: TensorsData) -> bytes:
    """Returns a copy of a model from `read_graph` with the named convolutions in 8-bit integers.

    `ranges` has the range of each tensor that they read.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if convolutions:
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=True,  # weights of 7 bits
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=sorted(convolutions),
            nodes_to_exclude=[],
            op_types_to_quantize=["Conv"],
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"], "QuantizeBias": False},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        copy = quantizer.model.model
    content: bytes = copy.SerializeToString(deterministic=True)
    return content
