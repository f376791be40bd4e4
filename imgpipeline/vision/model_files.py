"""Downloads, reads and writes the files of models.

Reads are verified, and a written file appears whole or not at all. Darknet's files are converted. A downloaded file is
written only if its size and sha256 are the registered ones, so an interrupted or tampered download is never loaded.
"""

import fcntl
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_incrementing

from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.vision.model import SIZES_INPUT, ModelFile, ModelSpec
from imgpipeline.vision.registry import missing_file, registered_model

_CHUNK_SIZE_BYTES: Final = 1 << 18
_ATTEMPTS: Final = 4
_NETWORK_ERRORS: Final = (OSError, http.client.HTTPException)
"""urllib's own errors are OSErrors too; a cut connection is an HTTPException."""


Progress = Callable[[int, int], None]
"""Called with the bytes of a file that have arrived, and its registered size."""


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


def pull_model(
    name: str,
    *,
    model_dir: Path | None = None,
    progress: Progress = lambda _done, _all: None,
    timeout_s: float = 30.0,
    retry_wait_s: float = 1.0,
) -> ModelSpec:
    """Downloads a registered model; complete files are kept.

    Args:
        name: Its registered name.
        model_dir: Folder of downloaded and own models; None: `registry.model_folder()`.
        progress: Called for each written chunk, and once for a file that exists already.
        timeout_s: For connecting, and for each wait for data.
        retry_wait_s: Pause before the next attempt; it grows with each attempt.

    Returns:
        The model; its ONNX file exists.

    Raises:
        ConfigurationError: No model has that name, or the file of a shipped or own model is missing.
        TransientError: The network or the server failed. Files that are complete are kept.
        PermanentError: The server's file is not the registered one, or the disk cannot be written.
    """
    spec = registered_model(name, model_dir)
    if spec.shipped or spec.is_local:
        if not spec.path.is_file():
            raise missing_file(spec)
        return spec
    folder = spec.path.parent
    with one_at_a_time(folder / ".pull.lock"):  # two pulls would fetch the same files
        for file in spec.files:
            pull_file(file, folder, progress=progress, timeout_s=timeout_s, retry_wait_s=retry_wait_s)
        if spec.converted:
            _convert(spec)
    return spec


def pull_file(
    file: ModelFile,
    folder: Path,
    *,
    progress: Progress = lambda _done, _all: None,
    timeout_s: float = 30.0,
    retry_wait_s: float = 1.0,
) -> Path:
    """Downloads one file, verifies it, and returns its path; arguments and errors as `pull_model`."""
    path = folder / file.name
    if path.is_file() and _sha256(path) == file.sha256:
        progress(file.size_bytes, file.size_bytes)
        return path
    try:
        for attempt in Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_incrementing(retry_wait_s, retry_wait_s),
            retry=retry_if_exception_type(_NETWORK_ERRORS),
            reraise=True,
        ):
            with attempt:
                content = _fetch(file, progress, timeout_s)
    except _NETWORK_ERRORS as error:
        raise _unreachable(file, folder, error) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if (len(content), sha256) != (file.size_bytes, file.sha256):
        raise _wrong_file(
            file, f"{len(content)} bytes and sha256 {sha256}", f"{file.size_bytes} bytes and {file.sha256}"
        )
    write_whole(path, content)
    return path


def _fetch(file: ModelFile, progress: Progress, timeout_s: float) -> bytes:
    """Returns what the server sends, but at most one byte more than the registered size."""
    request = urllib.request.Request(file.url or "", headers={"User-Agent": "imgpipeline"})  # noqa: S310 - registry's own URL
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310 - registry's own URL
            content = bytearray()
            while chunk := response.read(min(_CHUNK_SIZE_BYTES, file.size_bytes + 1 - len(content))):
                content += chunk
                progress(len(content), file.size_bytes)
            if response.length and len(content) <= file.size_bytes:
                raise http.client.IncompleteRead(bytes(content), response.length)
            return bytes(content)
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise
        raise PermanentError(
            f"{file.name} cannot be downloaded: {file.url} answers {error.code}, expected 200.",
            next_step="check whether the file was moved, or put it into the folder of models by hand",
        ) from error


def _convert(spec: ModelSpec) -> None:
    by_role = {file.role: spec.path.parent / file.name for file in spec.files}
    from imgpipeline.vision.darknet import convert_darknet  # noqa: PLC0415 - loads onnx

    sha256 = convert_darknet(by_role["cfg"], by_role["weights"], spec.path)
    write_whole(checksum_path(spec.path), f"{sha256}\n".encode())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreachable(file: ModelFile, folder: Path, reason: BaseException) -> TransientError:
    host = urllib.parse.urlsplit(file.url or "").hostname
    why = getattr(reason, "reason", None) or reason
    return TransientError(
        f"{file.name} cannot be downloaded: no connection to {host} ({why}). Check the network, and "
        f"whether a proxy has to be set (HTTPS_PROXY).",
        next_step=f"run the command again, or put the file from {file.url} into {folder} by hand first",
    )


def _wrong_file(file: ModelFile, actual: str, expected: str) -> PermanentError:
    return PermanentError(
        f"{file.url} is not the registered file: it has {actual}, expected {expected}. It is not kept.",
        next_step="run the command again; if it fails again, the file was replaced, or a proxy changes it",
    )
