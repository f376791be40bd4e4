"""Downloads registered models: fetches, resumes and verifies their files, and converts Darknet's files.

A file appears under its name only if its size and sha256 are the registered ones, so an interrupted or tampered
download is never loaded.
"""

import fcntl
import hashlib
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.vision.darknet.convert import convert_darknet, write_whole
from imgpipeline.vision.detector import checksum_path
from imgpipeline.vision.model import ModelFile, ModelSpec
from imgpipeline.vision.registry import missing_file, registered_model

_CHUNK_SIZE_BYTES: Final = 1 << 18
_ATTEMPTS: Final = 4
_NETWORK_ERRORS: Final = (OSError, http.client.HTTPException)
"""urllib's own errors are OSErrors too; a cut connection is an HTTPException."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one file's download is."""

    file: str
    """Its name."""
    done_bytes: int
    """Bytes that are on disk, those of earlier attempts included."""
    total_bytes: int
    """Registered size."""


OnProgress = Callable[[Progress], None]


def pull_model(
    name: str,
    *,
    model_dir: Path | None = None,
    on_progress: OnProgress = lambda _: None,
    timeout_s: float = 30.0,
    retry_wait_s: float = 1.0,
) -> ModelSpec:
    """Downloads a registered model; complete files are kept.

    Args:
        name: Its registered name.
        model_dir: Folder of downloaded models; None: as `registry.model_folder` says.
        on_progress: Called for every chunk that was written, and once for a file that was there already.
        timeout_s: For connecting, and for each wait for data.
        retry_wait_s: Pause before another attempt, longer after each that brought nothing.

    Returns:
        The model; its ONNX file exists.

    Raises:
        ConfigurationError: No model has that name, or the file of a model that is not downloaded is missing.
        TransientError: The network or the server failed; what was fetched is kept, and the next call continues.
        PermanentError: The server has another file than the registered one, or the disk cannot be written.
    """
    spec = registered_model(name, model_dir)
    if spec.shipped or spec.is_local:
        if not spec.path.is_file():
            raise missing_file(spec)
        return spec
    folder = spec.path.parent
    with _one_at_a_time(folder):
        for file in spec.files:
            pull_file(file, folder, on_progress=on_progress, timeout_s=timeout_s, retry_wait_s=retry_wait_s)
        if spec.converted:
            _convert(spec)
    return spec


def pull_file(
    file: ModelFile,
    folder: Path,
    *,
    on_progress: OnProgress = lambda _: None,
    timeout_s: float = 30.0,
    retry_wait_s: float = 1.0,
) -> Path:
    """Downloads one file into `NAME.part`, verifies it, and gives it its name.

    Args:
        file: What to fetch; it has a URL.
        folder: Where to; it exists.
        on_progress: Called for every chunk that was written.
        timeout_s: For connecting, and for each wait for data.
        retry_wait_s: Pause before another attempt, longer after each that brought nothing.

    Returns:
        The file's path.

    Raises:
        TransientError: The network or the server failed; the `.part` is kept, and the next call continues.
        PermanentError: The file's size or hash is wrong, or the disk cannot be written.
    """
    path = folder / file.name
    if path.is_file() and _sha256(path) == file.sha256:
        on_progress(Progress(file.name, file.size_bytes, file.size_bytes))
        return path
    part = path.with_name(path.name + ".part")
    _fetch_whole(file, part, on_progress, timeout_s, retry_wait_s)
    _verify(file, part)
    part.replace(path)
    return path


def _fetch_whole(file: ModelFile, part: Path, on_progress: OnProgress, timeout_s: float, retry_wait_s: float) -> None:
    """Fetches until the registered size is there; an attempt that brought something is not a failed one."""
    failures = 0
    while (have := _size(part)) < file.size_bytes:
        try:
            _fetch(file, part, have, on_progress, timeout_s)
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise _refused(file, error.code) from error
            reason: BaseException = error
        except _NETWORK_ERRORS as error:
            reason = error
        else:
            continue
        failures = 0 if _size(part) > have else failures + 1
        if failures >= _ATTEMPTS:
            raise _unreachable(file, part.parent, reason) from reason
        time.sleep(retry_wait_s * failures)


def _fetch(file: ModelFile, part: Path, have: int, on_progress: OnProgress, timeout_s: float) -> None:
    request = urllib.request.Request(file.url or "", headers={"User-Agent": "imgpipeline"})  # noqa: S310 - registry's own URL
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310 - registry's own URL
        if not (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            have = 0  # a server that knows no ranges sends all of it again
        total = have + int(response.headers.get("Content-Length") or file.size_bytes - have)
        if total != file.size_bytes:
            raise _wrong_file(file, f"{total} bytes", f"{file.size_bytes}")
        with _Part(part, have) as out:
            # Never more than the registered size: a wrong server must not fill the disk.
            while have < file.size_bytes:
                chunk = response.read(min(_CHUNK_SIZE_BYTES, file.size_bytes - have))
                if not chunk:
                    raise http.client.IncompleteRead(b"", file.size_bytes - have)
                out.write(chunk)
                have += len(chunk)
                on_progress(Progress(file.name, have, file.size_bytes))


class _Part:
    """The file that grows. Its errors are the disk's and not the network's, though both are OSErrors."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        self._path = path
        try:
            self._file = path.open("r+b" if keep_bytes else "wb", buffering=0)
            self._file.seek(keep_bytes)
        except OSError as error:
            raise _unwritable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, chunk: bytes) -> None:
        try:
            if self._file.write(chunk) != len(chunk):
                raise OSError("the disk is full")
        except OSError as error:
            raise _unwritable(self._path, error) from error


def _verify(file: ModelFile, part: Path) -> None:
    size_bytes, sha256 = _size(part), _sha256(part)
    if (size_bytes, sha256) == (file.size_bytes, file.sha256):
        return
    part.unlink(missing_ok=True)
    raise _wrong_file(file, f"{size_bytes} bytes and sha256 {sha256}", f"{file.size_bytes} bytes and {file.sha256}")


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Lets a second pull wait for the first, so that they do not write into one `.part`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".pull.lock").open("wb")
    except OSError as error:
        raise _unwritable(folder, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _convert(spec: ModelSpec) -> None:
    by_role = {file.role: spec.path.parent / file.name for file in spec.files}
    sha256 = convert_darknet(by_role["cfg"], by_role["weights"], spec.path)
    write_whole(checksum_path(spec.path), f"{sha256}\n".encode())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreachable(file: ModelFile, folder: Path, reason: BaseException) -> TransientError:
    host = urllib.parse.urlsplit(file.url or "").hostname
    why = getattr(reason, "reason", None) or reason
    return TransientError(
        f"{file.name} cannot be downloaded: no connection to {host} ({why}). Is there a network, or a proxy to set "
        f"(HTTPS_PROXY)? What was fetched so far is kept.",
        next_step=f"run the command again, or put the file from {file.url} into {folder} by hand and run it then",
    )


def _wrong_file(file: ModelFile, actual: str, expected: str) -> PermanentError:
    return PermanentError(
        f"{file.url} is not the registered file: it has {actual}, expected {expected}. It was not kept.",
        next_step="run the command again; if it fails again, the file was replaced or a proxy changes it",
    )


def _refused(file: ModelFile, status: int) -> PermanentError:
    return PermanentError(
        f"{file.name} cannot be downloaded: {file.url} answers {status}, expected was 200.",
        next_step="check whether the file was moved; a file put into the folder of models by hand will do as well",
    )


def _unwritable(path: Path, error: OSError) -> PermanentError:
    return PermanentError(
        f"{path} cannot be written: {error}.",
        next_step="free space, correct the permissions, or set IMGPIPELINE_MODEL_DIR to another folder",
    )
