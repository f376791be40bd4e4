"""Converts Darknet networks (cfg and weights) of the yolov3-tiny and yolov4-tiny family to ONNX.

Sources: AlexeyAB/darknet (`src/parser.c`, `src/*_layer.c`), the ONNX operator specifications, opset 13.
"""

import hashlib
from pathlib import Path
from typing import Final

import onnx

from imgpipeline.errors import PermanentError
from imgpipeline.vision.darknet.cfg import parse_cfg
from imgpipeline.vision.darknet.graph import emit_graph
from imgpipeline.vision.darknet.network import plan_network
from imgpipeline.vision.darknet.weights import read_weights
from imgpipeline.vision.model_files import write_whole

LARGEST_CFG_BYTES: Final = 2**20
LARGEST_WEIGHTS_BYTES: Final = 2**31 - 2**24
"""An ONNX file has at most 2 GiB, including the graph."""


def convert_darknet(cfg: Path, weights: Path, out_onnx: Path) -> str:
    """Converts a Darknet network of the yolov3-tiny or yolov4-tiny family to ONNX.

    Args:
        cfg: The network's description.
        weights: Its weights.
        out_onnx: The file to write; it appears whole or not at all, and replaces an existing one.

    Returns:
        The sha256 of the ONNX file.

    Raises:
        PermanentError: A file cannot be read or written, or the network cannot be converted exactly; the message
            names the layer, what was found and what was expected.
    """
    text = _read(cfg, LARGEST_CFG_BYTES).decode("utf-8", "replace")
    network = plan_network(parse_cfg(text))
    data = _read(weights, LARGEST_WEIGHTS_BYTES)
    model = emit_graph(network, read_weights(data, network))
    onnx.helper.set_model_props(model, {"darknet_weights_sha256": hashlib.sha256(data).hexdigest()})
    content = model.SerializeToString(deterministic=True)
    write_whole(out_onnx, content)
    return hashlib.sha256(content).hexdigest()


def _read(path: Path, most_bytes: int) -> bytes:
    """Reads a whole file of limited size; refuses pipes and devices, whose size is unknown."""
    try:
        if path.exists() and not path.is_file():
            raise PermanentError(f"{path} is not a file.", next_step="check both paths")
        if path.stat().st_size > most_bytes:
            raise PermanentError(
                f"{path} has more than {most_bytes:,} bytes.", next_step="check that cfg and weights are not swapped"
            )
        return path.read_bytes()
    except OSError as error:
        raise PermanentError(f"The Darknet model cannot be read: {error}.", next_step="check both paths") from error
