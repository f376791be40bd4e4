"""What is detected, and by which network: pictures of a real video, and the networks of the benchmarks."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.place import REPOSITORY, say
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.vision.darknet import convert_darknet
from imgpipeline.vision.decode import Pixels
from imgpipeline.vision.registry import registered_model
from imgpipeline_tests.vision.darknet.random_weights import random_weights

_JPEG_QUALITY = 90
_NULL_SIDE = 32
_NULL_ROWS = 21
"""Rows of a YOLOX output for 32x32 pixels: 4x4 + 2x2 + 1x1."""


def shared_data() -> Path:
    """Returns the folder of test data; it may not exist."""
    named = os.environ.get("IMGPIPELINE_TEST_DATA")
    return Path(named) if named else REPOSITORY.parent / "shared" / "data"


def make_pictures(width: int, height: int, count: int) -> tuple[bytes, ...]:
    """Returns different JPEGs of a size, quality 90, of the test data's video (at most 265) or of simulated scenes."""
    video = shared_data() / "video" / "vehicles.mp4"
    frames = _frames_of(video) if video.is_file() else _drawn(count)
    return tuple(_encode(cv2.resize(frame, (width, height))) for frame, _ in zip(frames, range(count), strict=False))


def _frames_of(video: Path) -> Iterator[Pixels]:
    capture = cv2.VideoCapture(str(video))
    try:
        while True:
            is_read, frame = capture.read()
            if not is_read:
                return
            yield np.asarray(frame, np.uint8)
    finally:
        capture.release()


def _drawn(count: int) -> Iterator[Pixels]:
    scene = Scene(1, frames=count)
    for number in range(count):
        yield scene.frame(number)[0]


def _encode(picture: cv2.typing.MatLike) -> bytes:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes()


@dataclass(frozen=True, slots=True)
class Network:
    """One model file."""

    name: str
    """As tables show it."""
    path: str
    """The ONNX file, or a registered name."""
    decoder: str | None
    """Output layout for a file; None for a registered name."""

    def settings(self) -> dict[str, str]:
        """Returns the settings that choose it."""
        return {"model": self.path} | ({"model_decoder": self.decoder} if self.decoder else {})


class MissingDataError(Exception):
    """A benchmark's file is missing; the message says which, and where it belongs."""


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


def usual_network() -> Network:
    """Returns YOLOX-nano, or the shipped demo model where that is missing."""
    try:
        return yolox_nano()
    except MissingDataError as error:
        say(f"with the demo model: {error}")
        return Network("demo", "demo", None)


def yolov4_tiny(folder: Path) -> Network:
    """Makes YOLOv4-tiny with random weights in a folder: its speed does not depend on what it has learned.

    Raises:
        MissingDataError: Its description is missing.
    """
    cfg, target = yolov4_tiny_cfg(), folder / "yolov4-tiny-random.onnx"
    if not cfg.is_file():
        raise MissingDataError(
            f"the description of YOLOv4-tiny is not at {cfg} (IMGPIPELINE_TEST_DATA names the folder)"
        )
    if not target.exists():
        weights = folder / "yolov4-tiny.weights"
        weights.write_bytes(random_weights(cfg.read_text(encoding="utf-8"), 7))
        convert_darknet(cfg, weights, target)
    return Network("yolov4-tiny, random weights", str(target), "yolov4")


def yolov4_tiny_cfg() -> Path:
    """Returns where the description of YOLOv4-tiny belongs."""
    return shared_data() / "models" / "yolov4-tiny.cfg"


def null_network(folder: Path) -> Network:
    """Makes a network of 32x32 pixels that never finds anything, so that only the pipeline itself remains."""
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
