"""Writes a Darknet network as an ONNX graph.

It only uses operators that every backend supports (opset 13) and declares the shape of every output. The same network
always gives the same bytes.

The only output, `output` [1, boxes, 5 + classes], contains the [yolo] layers in order, each by row, column and anchor:
centre x, centre y, width, height (fractions of the input), objectness, class scores (not multiplied).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from imgpipeline.vision.darknet.network import (
    Activation,
    Convolution,
    Layer,
    MaxPool,
    Network,
    Route,
    Shape,
    Shortcut,
    Upsample,
    Yolo,
)
from imgpipeline.vision.darknet.weights import ConvolutionWeights

_OPSET = 13
_IR_VERSION = 8
_LEAKY_SLOPE = 0.1


def emit_graph(network: Network, weights: Mapping[int, ConvolutionWeights]) -> onnx.ModelProto:
    """Returns a network as a checked ONNX model, with the input `images`: float32 [1, 3, height, width], RGB, 0 to 1.

    Args:
        network: The network.
        weights: The weights of each convolution, by layer number.
    """
    return _Emitter(network, weights).emit()


class _Emitter:
    """Collects nodes and constants; the method for a layer returns the name of its result."""

    def __init__(self, network: Network, weights: Mapping[int, ConvolutionWeights]) -> None:
        self._network = network
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._results: dict[int, str] = {-1: "images"}

    def emit(self) -> onnx.ModelProto:
        heads, boxes, columns = [], 0, set()
        for layer in self._network.layers:
            result = self._layer(layer)
            self._results[layer.section.number] = result
            if isinstance(layer.operation, Yolo):
                heads.append(result)
                boxes += len(layer.operation.anchors) * layer.shape[1] * layer.shape[2]
                columns.add(5 + layer.operation.classes)
        if len(columns) > 1:
            last = self._network.layers[-1].section
            raise last.error(f"[yolo] layers with {sorted(c - 5 for c in columns)} classes", "one number of classes")
        self._node("Concat", heads, "output", axis=1)
        size = self._network
        images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size.height, size.width])
        output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, boxes, columns.pop()])
        graph = helper.make_graph(self._nodes, "darknet", [images], [output], list(self._constants.values()))
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="imgpipeline")
        onnx.checker.check_model(model, full_check=True)
        return model

    def _layer(self, layer: Layer) -> str:
        name, inputs = f"layer{layer.section.number}", [self._results[source] for source in layer.sources]
        match layer.operation:
            case Convolution() as convolution:
                return self._convolution(name, inputs[0], convolution, self._weights[layer.section.number])
            case MaxPool(size=size, stride=stride, before=before, after=after):
                pads = [before, before, after, after]
                return self._node("MaxPool", inputs, name, kernel_shape=[size] * 2, strides=[stride] * 2, pads=pads)
            case Route() as route:
                return self._route(name, layer.sources, route)
            case Shortcut(activation=activation):
                return self._shortcut(name, inputs, activation)
            case Upsample(factor=factor):
                return self._upsample(name, inputs[0], factor)
            case Yolo() as yolo:
                return self._yolo(name, inputs[0], yolo, layer.shape)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, name: str, value: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> str:
        self._constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _floats(self, name: str, value: object) -> str:
        return self._constant(name, np.asarray(value, np.float32))

    def _convolution(self, name: str, source: str, layer: Convolution, weights: ConvolutionWeights) -> str:
        kernel = self._floats(f"{name}.kernel", weights.kernel)
        bias = self._floats(f"{name}.bias", weights.bias)
        raw = self._node(
            "Conv",
            [source, kernel, bias],
            f"{name}.sum",
            kernel_shape=[layer.size] * 2,
            strides=[layer.stride] * 2,
            pads=[layer.padding] * 4,
            group=layer.groups,
        )
        return self._activate(name, raw, layer.activation)

    def _activate(self, name: str, source: str, activation: Activation) -> str:
        if activation == "leaky":
            return self._node("LeakyRelu", [source], name, alpha=_LEAKY_SLOPE)
        if activation == "mish":
            soft = self._node("Softplus", [source], f"{name}.softplus")
            return self._node("Mul", [source, self._node("Tanh", [soft], f"{name}.tanh")], name)
        return source

    def _route(self, name: str, sources: tuple[int, ...], route: Route) -> str:
        parts = []
        for index, source in enumerate(sources):
            result = self._results[source]
            if route.groups > 1:
                share = self._network.shape_of(source)[0] // route.groups
                first = share * route.group_id
                result = self._slice(f"{name}.part{index}", result, first, first + share, axis=1)
            parts.append(result)
        return parts[0] if len(parts) == 1 else self._node("Concat", parts, name, axis=1)

    def _slice(self, name: str, source: str, first: int, end: int, *, axis: int) -> str:
        bounds = [self._constant(f"whole{value}", np.array([value], np.int64)) for value in (first, end, axis)]
        return self._node("Slice", [source, *bounds], name)

    def _shortcut(self, name: str, inputs: list[str], activation: Activation) -> str:
        total = inputs[0]
        for index, other in enumerate(inputs[1:]):
            total = self._node("Add", [total, other], f"{name}.sum{index}")
        return self._activate(name, total, activation)

    def _upsample(self, name: str, source: str, factor: int) -> str:
        scales = self._floats(f"times{factor}", [1, 1, factor, factor])
        rules = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return self._node("Resize", [source, "", scales], name, **rules)

    def _yolo(self, name: str, source: str, yolo: Yolo, shape: Shape) -> str:
        """Implements Darknet's `get_yolo_box`: sigmoid for centres within a cell, exp times an anchor for sizes."""
        _, height, width = shape
        anchors, columns = len(yolo.anchors), 5 + yolo.classes
        split = self._constant(f"{name}.split", np.array([1, anchors, columns, height * width], np.int64))
        flat = self._constant(f"{name}.flat", np.array([1, height * width * anchors, columns], np.int64))
        cells = self._node("Reshape", [source, split], f"{name}.anchors")
        turned = self._node("Transpose", [cells], f"{name}.turned", perm=[0, 3, 1, 2])
        rows = self._node("Reshape", [turned, flat], f"{name}.rows")

        centre = self._node("Sigmoid", [self._slice(f"{name}.xy", rows, 0, 2, axis=2)], f"{name}.inside")
        size = self._node("Exp", [self._slice(f"{name}.wh", rows, 2, 4, axis=2)], f"{name}.growth")
        scores = self._node("Sigmoid", [self._slice(f"{name}.logits", rows, 4, columns, axis=2)], f"{name}.scores")

        grid_rows, grid_columns = np.mgrid[:height, :width]
        corners = np.stack([grid_columns, grid_rows], axis=-1).reshape(-1, 1, 2).repeat(anchors, axis=1)
        offsets = (corners.reshape(1, -1, 2) - (yolo.scale_xy - 1) / 2) / (width, height)
        sizes = np.array(yolo.anchors) / (self._network.width, self._network.height)
        factor = self._floats(f"{name}.cell", [[[yolo.scale_xy / width, yolo.scale_xy / height]]])
        scaled = self._node("Mul", [centre, factor], f"{name}.moved")
        placed = self._node("Add", [scaled, self._floats(f"{name}.offsets", offsets)], f"{name}.centre")
        tiled = self._floats(f"{name}.sizes", np.tile(sizes, (height * width, 1))[None])
        return self._node("Concat", [placed, self._node("Mul", [size, tiled], f"{name}.size"), scores], name, axis=2)
