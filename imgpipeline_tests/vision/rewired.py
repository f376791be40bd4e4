"""YOLOX-nano with another input and output: the same real detections in the layouts of other families."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imgpipeline.vision.decoders import yolox_grid

SIDE = 416


def rewire(yolox: Path, path: Path, layout: str) -> Path:
    """Write YOLOX-nano as `yolox-decoded`, or as `yolov8` with an RGB input from 0 to 1."""
    model = onnx.load(yolox)
    graph = model.graph
    raw, images = graph.output[0].name, graph.input[0].name
    grid = yolox_grid(SIDE, SIDE)
    constants = {
        "offset": np.array(grid[None, :, :2]), "stride": np.array(grid[None, :, 2:]),
        **{f"at{n}": np.array([n], np.int64) for n in (0, 2, 4, 5, 85)}, "last": np.array([2], np.int64),
    }  # fmt: skip
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    cuts = (("xy", 0, 2), ("wh", 2, 4), ("obj", 4, 5), ("cls", 5, 85))
    graph.node.extend(helper.make_node("Slice", [raw, f"at{a}", f"at{b}", "last"], [name]) for name, a, b in cuts)
    for operator, inputs, output in (
        ("Add", ["xy", "offset"], "moved"), ("Mul", ["moved", "stride"], "centre"),
        ("Exp", ["wh"], "grown"), ("Mul", ["grown", "stride"], "size"),
    ):  # fmt: skip
        graph.node.append(helper.make_node(operator, inputs, [output]))
    del graph.output[:]
    if layout == "yolox-decoded":
        graph.node.append(helper.make_node("Concat", ["centre", "size", "obj", "cls"], ["decoded"], axis=2))
        graph.output.append(helper.make_tensor_value_info("decoded", TensorProto.FLOAT, [1, len(grid), 85]))
    else:
        graph.node.append(helper.make_node("Mul", ["obj", "cls"], ["scores"]))
        graph.node.append(helper.make_node("Concat", ["centre", "size", "scores"], ["rows"], axis=2))
        graph.node.append(helper.make_node("Transpose", ["rows"], ["output0"], perm=[0, 2, 1]))
        graph.output.append(helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 84, len(grid)]))
        _take_rgb_from_0_to_1(graph, images)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _take_rgb_from_0_to_1(graph: onnx.GraphProto, images: str) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "reversed"))
    graph.initializer.append(numpy_helper.from_array(np.float32(255), "full"))
    for node in graph.node:
        node.input[:] = ["bgr" if name == images else name for name in node.input]
    graph.node.insert(0, helper.make_node("Gather", [images, "reversed"], ["swapped"], axis=1))
    graph.node.insert(1, helper.make_node("Mul", ["swapped", "full"], ["bgr"]))
