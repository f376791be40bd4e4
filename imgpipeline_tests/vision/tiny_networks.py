"""ONNX files of every output layout: tiny networks that return known numbers, whatever image they get."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


def write_network(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    *,
    size: tuple[int, int] = (64, 32),
    sizes_input: bool = False,
    metadata: Mapping[str, str] | None = None,
    scale_boxes: bool = False,
    with_exp: bool = False,
) -> Path:
    """Write a network.

    Args:
        path: Where to.
        outputs: What it returns, by name.
        size: Width and height of its input.
        sizes_input: Whether it also takes `orig_target_sizes`, as deployed DETR models do.
        metadata: Properties of the file.
        scale_boxes: Whether the output `boxes` is multiplied by `orig_target_sizes`, as in deployed DETR models.
        with_exp: Whether an exponential is computed on the way.
    """
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size[1], size[0]])]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants = [numpy_helper.from_array(np.float32(0), "zero")]
    if sizes_input:
        inputs.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["N", 2]))
        inputs[0].type.tensor_type.shape.dim[0].dim_param = "N"
        nodes.append(helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Concat", ["sizes", "sizes"], ["corners"], axis=1))
    if with_exp:
        nodes.append(helper.make_node("Exp", ["nothing"], ["one"]))
    for name, values in outputs.items():
        constants.append(numpy_helper.from_array(values, f"{name}_values"))
        if values.dtype == np.int64:
            nodes.append(helper.make_node("Identity", [f"{name}_values"], [name]))
        elif scale_boxes and name == "boxes":
            nodes.append(helper.make_node("Mul", [f"{name}_values", "corners"], [name]))
        else:
            nodes.append(helper.make_node("Add", [f"{name}_values", "nothing"], [name]))
    declared = [helper.make_tensor_value_info(n, _TYPES[v.dtype], v.shape) for n, v in outputs.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, declared, constants), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path
