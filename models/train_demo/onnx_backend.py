"""The network's backend for export: emits ONNX nodes, batch normalisation folded into the convolutions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.train_demo.network import STRIDES, Layer, network

Array = NDArray[np.float32]
OPSET = 13
PIXEL_SCALE = 128
"""Training divides the pixels by this; a power of two folds into the first convolution without rounding."""


class Emit:
    """Adds nodes to a graph; a feature map is the name of the value that holds it.

    Args:
        weights: `layer.part` arrays, as `train.save` writes them.
    """

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Adds a node with one output of the same name and returns it."""
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def tensor(self, name: str, value: NDArray[Any]) -> str:
        """Adds a constant and returns its name."""
        self.tensors[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def conv(self, layer: Layer, x: str, /) -> str:
        """Adds a convolution, with the normalisation in its kernels and bias, and ReLU."""
        names = ("kernels", "gamma", "beta", "mean", "variance")
        part = {name: self._weights[f"{layer.name}.{name}"] for name in names}
        scale = part["gamma"] / np.sqrt(part["variance"] + 1e-3)
        kernels = part["kernels"] * scale / (PIXEL_SCALE if x == "images" else 1)
        bias = part["beta"] - part["mean"] * scale
        return self.node("Relu", [self._convolve(layer, layer.name, x, kernels, bias)], f"{layer.name}.relu")

    def head(self, layer: Layer, x: str, /) -> str:
        """Adds two convolutions with bias: the box as it is, the scores through a sigmoid."""
        kernels, bias = self._weights[f"{layer.name}.kernels"], self._weights[f"{layer.name}.bias"]
        box = self._convolve(layer, f"{layer.name}.box", x, kernels[..., :4], bias[:4])
        logit = self._convolve(layer, f"{layer.name}.logit", x, kernels[..., 4:], bias[4:])
        score = self.node("Sigmoid", [logit], f"{layer.name}.score")
        return self.node("Concat", [box, score], layer.name, axis=1)

    def add(self, a: str, b: str, /) -> str:
        """Adds an addition."""
        return self.node("Add", [a, b], f"{a}+{b}")

    def double(self, x: str, /) -> str:
        """Adds a resize that repeats pixels."""
        attributes = {
            "mode": "nearest",
            "nearest_mode": "floor",
            "coordinate_transformation_mode": "asymmetric",
        }
        scales = self.tensor("twice", np.array([1, 1, 2, 2], np.float32))
        return self.node("Resize", [x, "", scales], f"{x}.double", **attributes)

    def _convolve(self, layer: Layer, name: str, x: str, kernels: Array, bias: Array) -> str:
        kernels = kernels.transpose(3, 2, 0, 1)
        inputs = [x, self.tensor(f"{name}.kernels", kernels), self.tensor(f"{name}.bias", bias)]
        attributes = {
            "kernel_shape": [layer.kernel] * 2,
            "strides": [layer.stride] * 2,
            "pads": [layer.kernel // 2] * 4,
        }
        return self.node("Conv", inputs, name, **attributes)


def make_model(weights: Mapping[str, NDArray[np.float32]], labels: tuple[str, ...], side: int) -> onnx.ModelProto:
    """Makes the checked ONNX model.

    Args:
        weights: `layer.part` arrays, as `train.save` writes them.
        labels: Class names in the order of the class ids; also written into the model's metadata.
        side: Width and height of the input in px, a multiple of 32.

    Returns:
        Input `images` [1, 3, side, side] float32, BGR 0..255; output `output` [1, points, 5 + classes] float32 in
        YOLOX's layout: dx, dy, log width, log height (not decoded), objectness and class scores (after sigmoid).
    """
    emit = Emit(weights)
    channels = 5 + len(labels)
    maps = network(emit, "images", len(labels))
    shape = emit.tensor("flat", np.array([1, channels, -1], np.int64))
    flat = [emit.node("Reshape", [name, shape], f"{name}.flat") for name in maps]
    emit.node("Transpose", [emit.node("Concat", flat, "all", axis=2)], "output", perm=[0, 2, 1])
    points = sum((side // stride) ** 2 for stride in STRIDES)
    graph = helper.make_graph(
        emit.nodes,
        "imgpipeline-demo",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, points, channels])],
        list(emit.tensors.values()),
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="imgpipeline")
    helper.set_model_props(model, {"labels": ",".join(labels)})
    onnx.checker.check_model(model, full_check=True)
    return model
