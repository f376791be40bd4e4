"""The networks of the benchmarks, and how a run is told to use them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.pictures import shared_data
from imgpipeline.vision.darknet import convert_darknet
from imgpipeline.vision.registry import registered_model
from imgpipeline_tests.vision.darknet.random_weights import random_weights

_NULL_SIDE = 32
_NULL_ROWS = 21
"""Rows of a YOLOX output for 32x32 pixels: 4x4 + 2x2 + 1x1."""


@dataclass(frozen=True, slots=True)
class Network:
    """One model file and what has to be said about it."""

    name: str
    """As it stands in the tables."""
    path: str
    """The ONNX file, or a registered name."""
    decoder: str | None
    """Output layout for a file; None for a registered name."""

    def settings(self) -> dict[str, str]:
        """Returns the settings that choose it."""
        return {"model": self.path} | ({"model_decoder": self.decoder} if self.decoder else {})


class MissingDataError(Exception):
    """A benchmark's file is not there; the message says which, and where it belongs."""


def yolox_nano() -> Network:
    """Finds YOLOX-nano: in the test data, or pulled.

    Raises:
        MissingDataError: It is in neither place.
    """
    places = (shared_data() / "models" / "yolox_nano.onnx", registered_model("yolox-nano").path)
    for path in places:
        if path.is_file():
            return Network("yolox_nano", str(path), "yolox")
    raise MissingDataError(f"yolox_nano.onnx is neither at {places[0]} nor pulled: imgpipeline models pull yolox-nano")


def yolov4_tiny(folder: Path) -> Network:
    """Makes YOLOv4-tiny with random weights: its speed does not depend on what it has learned.

    Args:
        folder: For the ONNX file.

    Raises:
        MissingDataError: Its description is not there.
    """
    cfg, target = shared_data() / "models" / "yolov4-tiny.cfg", folder / "yolov4-tiny-random.onnx"
    if not cfg.is_file():
        raise MissingDataError(
            f"the description of YOLOv4-tiny is not at {cfg} (IMGPIPELINE_TEST_DATA names the folder)"
        )
    if not target.exists():
        weights = folder / "yolov4-tiny.weights"
        weights.write_bytes(random_weights(cfg.read_text(encoding="utf-8"), 7))
        convert_darknet(cfg, weights, target)
    return Network("yolov4-tiny, random weights", str(target), "yolov4")


def nothing_seen(folder: Path) -> Network:
    """Makes a network that looks at 32x32 pixels and never finds anything: what is left is the pipeline itself.

    Args:
        folder: For the ONNX file.
    """
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, _NULL_SIDE, _NULL_SIDE])
    rows = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, _NULL_ROWS, 85])
    zero = numpy_helper.from_array(np.zeros((1,), np.float32), "zero")
    shape = numpy_helper.from_array(np.array([1, _NULL_ROWS, 85], np.int64), "shape")
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Expand", ["nothing", "shape"], ["output"]),
    ]
    graph = helper.make_graph(nodes, "nothing", [image], [rows], [zero, shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    target = folder / "nothing.onnx"
    onnx.save(model, target)
    return Network("null network", str(target), "yolox")
