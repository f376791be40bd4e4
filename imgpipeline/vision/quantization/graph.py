"""Rewrites an ONNX graph so that chosen convolutions compute in 8-bit integers (the QDQ form).

The input of each passes through QuantizeLinear and DequantizeLinear (uint8, one scale), and its weights are int8 with
one scale per output channel, from -64 to 64, so results do not depend on the processor (`precision.MOST_WEIGHT`).
Outputs stay floats, so the activation functions after a convolution are exact, and backends fuse them.

Source: ONNX operators QuantizeLinear and DequantizeLinear, opset 13.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from imgpipeline.errors import PermanentError
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.precision import MOST_WEIGHT

_OPSET: Final = 13
"""The first opset in which weights can have one scale per channel."""
_LEVELS: Final = 255


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
    """Returns the model with some convolutions in 8-bit integers.

    Args:
        model: As `read_graph` returns it; not changed.
        convolutions: Names of the outputs of these convolutions.
        ranges: The range of each tensor that they read.
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
