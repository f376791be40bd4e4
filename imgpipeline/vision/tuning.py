"""Measures which backend and precision are fastest on this machine, and keeps the result for each machine and model.

`IMGPIPELINE_PRECISION=auto` uses the result, and measures first if there is none.
"""

import fcntl
import hashlib
import json
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from imgpipeline.contracts.times import format_time
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.vision.backends import NARROW_BACKEND, installed_backends, open_backend
from imgpipeline.vision.backends.base import usable_cores
from imgpipeline.vision.darknet.convert import write_whole
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.model import ModelSpec
from imgpipeline.vision.precision import Precision, choose_precision, cpu_flags
from imgpipeline.vision.signature import bind_picture_size

_PACKAGES: Final = ("onnxruntime", "openvino", "opencv-python", "numpy")
_WARM_UP: Final = 3


@dataclass(frozen=True, slots=True)
class TunedRow:
    """One arrangement, measured."""

    backend: str
    """Name of the backend."""
    precision: Precision
    """What the model computed in."""
    workers: int
    """Images at a time."""
    threads: int
    """Threads per image."""
    images_per_s: float
    """Preprocessing, inference, decoding and suppression; no decoding of image files."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured of one model on one machine."""

    model: str
    """Its name."""
    model_sha256: str
    """SHA-256 of its file."""
    machine: str
    """Stands for the processor, the cores that may be used, and the versions of the backends."""
    measured_at: str
    """When, UTC."""
    rows: tuple[TunedRow, ...]
    """In the order of measuring."""

    def best(self, workers: int, backend: str = "auto") -> TunedRow | None:
        """Returns the fastest row with this many workers, in one backend or in any; None if none was measured."""
        fitting = [row for row in self.rows if row.workers == workers and backend in ("auto", row.backend)]
        return max(fitting, key=lambda row: row.images_per_s, default=None)


def machine_id() -> str:
    """Returns what another processor, number of cores or version of a backend changes, 16 hexadecimal digits."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = ""
    parts = (platform.machine(), sorted(cpu_flags()), usable_cores(), versions)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def tuning_path(folder: Path, model_sha256: str, machine: str) -> Path:
    """Returns where a result is kept, below the folder of models."""
    return folder / "tuning" / f"{machine}-{model_sha256[:16]}.json"


def read_tuning(folder: Path, model_sha256: str) -> Tuning | None:
    """Returns what was measured of a model on this machine; None if nothing was, or the file is damaged."""
    try:
        data: dict[str, Any] = json.loads(tuning_path(folder, model_sha256, machine_id()).read_text(encoding="utf-8"))
        return Tuning(**{**data, "rows": tuple(TunedRow(**row) for row in data["rows"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_tuning(folder: Path, tuning: Tuning) -> Path:
    """Keeps a result, and returns where.

    Raises:
        PermanentError: The folder cannot be written.
    """
    path = tuning_path(folder, tuning.model_sha256, tuning.machine)
    write_whole(path, (json.dumps(asdict(tuning), indent=1) + "\n").encode())
    return path


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Keeps other processes from measuring meanwhile, which would slow both down.

    Raises:
        PermanentError: The folder cannot be written.
    """
    try:
        (folder / "tuning").mkdir(parents=True, exist_ok=True)
        file = (folder / "tuning" / "lock").open("w")
    except OSError as error:
        raise PermanentError(
            f"What was measured cannot be kept in {folder / 'tuning'}: {error.strerror}.",
            next_step="set IMGPIPELINE_MODEL_DIR to a folder that can be written, or IMGPIPELINE_PRECISION to fp32",
        ) from error
    with file as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tune_model(
    spec: ModelSpec,
    content: bytes,
    *,
    arrangements: tuple[tuple[int, int], ...],
    backend: str = "auto",
    seconds: float = 1.0,
    now: datetime,
    told: Callable[[TunedRow], None] = lambda _row: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuning:
    """Measures a model in each backend and precision that this machine has.

    Args:
        spec: The model.
        content: Its ONNX file, as `read_verified` returns it.
        arrangements: Workers, and threads of each.
        backend: Only this one; `auto`: all that are installed.
        seconds: How long each row is measured.
        now: What is kept as the time of measuring.
        told: Called with each row.
        clock: Seconds, monotonic.

    Returns:
        The result; it is not kept yet.

    Raises:
        ConfigurationError: The backend is not installed.
        PermanentError: A backend cannot run the model.
    """
    rows, runnable = [], content
    if spec.decoder == "detr":
        runnable = bind_picture_size(content, spec.input_width, spec.input_height)
    opencv_threads = cv2.getNumThreads()
    try:
        for workers, threads in arrangements:
            for name, precision in _candidates(spec, content, backend):
                cv2.setNumThreads(threads)
                try:
                    network = open_backend(name, runnable, threads=threads, precision=precision)
                except ConfigurationError:
                    if precision == "bf16":  # this processor does not compute in it
                        continue
                    raise
                rate = _rate(Detector(spec, "", network, precision=precision), workers, seconds, clock)
                rows.append(TunedRow(name, precision, workers, threads, rate))
                told(rows[-1])
    finally:
        cv2.setNumThreads(opencv_threads)
    sha256 = hashlib.sha256(content).hexdigest()
    return Tuning(spec.name, sha256, machine_id(), format_time(now), tuple(rows))


def _candidates(spec: ModelSpec, content: bytes, backend: str) -> Iterator[tuple[str, Precision]]:
    names = installed_backends() if backend == "auto" else (backend,)
    precision = choose_precision("fp32", content, spec.name)
    yield from ((name, precision) for name in names)
    if precision == "fp32" and NARROW_BACKEND in names:
        yield NARROW_BACKEND, "bf16"


def _rate(detector: Detector, workers: int, seconds: float, clock: Callable[[], float]) -> float:
    """Returns how many images so many workers process per second."""
    pixels = np.full((480, 640, 3), 114, np.uint8)
    for _ in range(_WARM_UP):
        detector.detect(pixels)
    counts, until = [0] * workers, clock() + seconds

    def work(worker: int) -> None:
        while counts[worker] == 0 or clock() < until:
            detector.detect(pixels)
            counts[worker] += 1

    began = clock()
    pool = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return sum(counts) / max(clock() - began, 1e-9)
