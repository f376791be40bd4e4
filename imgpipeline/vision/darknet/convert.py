"""The whole conversion: reads Darknet's two files and writes the ONNX file atomically."""

import hashlib
import os
import tempfile
from pathlib import Path

import onnx

from imgpipeline.errors import PermanentError
from imgpipeline.vision.darknet.cfg import parse_cfg
from imgpipeline.vision.darknet.graph import emit_graph
from imgpipeline.vision.darknet.limits import LARGEST_CFG_BYTES, LARGEST_WEIGHTS_BYTES
from imgpipeline.vision.darknet.network import plan_network
from imgpipeline.vision.darknet.weights import read_weights


def convert_darknet(cfg: Path, weights: Path, out_onnx: Path) -> str:
    """Converts a Darknet network of the yolov3-tiny or yolov4-tiny family to ONNX.

    Args:
        cfg: The network's description.
        weights: Its weights.
        out_onnx: The file to write; it appears whole or not at all, and an older one is replaced.

    Returns:
        The sha256 of the ONNX file.

    Raises:
        PermanentError: A file cannot be read or written, or the network cannot be converted exactly; the message
            has the layer, what it has and what is expected.
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
    """Reads a whole file that is no larger than allowed; a pipe or a device has no end that is known."""
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


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that readers see all of it or nothing.

    Args:
        path: The file; its folder is created if it is missing.
        content: Its bytes.

    Raises:
        PermanentError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
        try:
            os.fchmod(handle, 0o644)  # a folder of models may be shared; mkstemp's files are private
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105 - the temporary name is a string already
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PermanentError(
            f"{path} cannot be written: {error}.", next_step="free space, or correct the permissions"
        ) from error
