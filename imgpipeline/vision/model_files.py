"""Reads and writes the files of models. Reads are verified, and a written file appears whole or not at all."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgpipeline.errors import PermanentError
from imgpipeline.vision.model import SIZES_INPUT, ModelSpec


def read_verified(spec: ModelSpec) -> tuple[bytes, str]:
    """Returns the bytes of a model's ONNX file and their sha256; the bytes that are verified are those that are loaded.

    Raises:
        PermanentError: The file cannot be read, or does not have the registered hash.
    """
    try:
        content = spec.path.read_bytes()
        expected = spec.sha256
        if spec.converted:
            expected = checksum_path(spec.path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise PermanentError(f"The model file cannot be read: {error}.", next_step=spec.how_to_restore) from error
    actual = hashlib.sha256(content).hexdigest()
    if expected is not None and actual != expected:
        raise PermanentError(
            f"The model file {spec.path} is damaged: its sha256 is {actual}, expected is {expected}.",
            next_step=spec.how_to_restore,
        )
    return content, actual


def checksum_path(onnx: Path) -> Path:
    """Returns the path of the file with the sha256 of an ONNX file that was converted here."""
    return onnx.with_name(onnx.name + ".sha256")


def runnable(spec: ModelSpec, content: bytes) -> bytes:
    """Returns a model's ONNX file as backends run it: whatever its layout, with the image as its only input.

    The input `orig_target_sizes` of the layout `detr` becomes a constant: boxes are in pixels of the network's input.
    """
    if spec.decoder != "detr":
        return content
    import numpy as np  # noqa: PLC0415 - keeps `--help` fast
    import onnx  # noqa: PLC0415 - costs 100 ms, and only this layout needs it

    model = onnx.load_from_string(content)
    bound = next((value for value in model.graph.input if value.name == SIZES_INPUT), None)
    if bound is None:
        return content
    dtype = onnx.helper.tensor_dtype_to_np_dtype(bound.type.tensor_type.elem_type)
    model.graph.input.remove(bound)
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array([[spec.input_width, spec.input_height]], dtype), SIZES_INPUT)
    )
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    changed: bytes = model.SerializeToString()
    return changed


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that readers see either all of it or nothing; creates its folder if it is missing.

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


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Makes other processes that use the same lock file, inside the folder of models, wait.

    Raises:
        PermanentError: The file cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("wb")
    except OSError as error:
        raise unwritable(lock, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unwritable(path: Path, error: OSError) -> PermanentError:
    """Returns the error for a path in the folder of models that cannot be written."""
    return PermanentError(
        f"{path} cannot be written: {error}.",
        next_step="free space, correct the permissions, or set IMGPIPELINE_MODEL_DIR to another folder",
    )
