"""Measures how fast models run on this machine.

`bench_model` times single pictures in each backend, for `imgpipeline models bench`. `tune_model` measures the
throughput of each backend and precision. The result is stored for each machine and model: `IMGPIPELINE_PRECISION=auto`
uses it, and measures first if there is none.
"""

import hashlib
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.contracts.times import format_time
from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.backends import GPU_BACKEND, NARROW_BACKEND, installed_backends, open_backend, usable_cores
from imgpipeline.vision.decode import Pixels
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.model import ModelSpec
from imgpipeline.vision.model_files import one_at_a_time, runnable, write_whole
from imgpipeline.vision.precision import Precision, choose_precision, cpu_flags
from imgpipeline.vision.preprocess import make_blob

_PACKAGES: Final = ("onnxruntime", "onnxruntime-gpu", "openvino", "opencv-python", "numpy")
_WARM_UP: Final = 3


@dataclass(frozen=True, slots=True)
class BenchRow:
    """The times of one backend with one number of threads."""

    backend: str
    threads: int
    """Threads per picture, >= 1."""
    median_ms: float
    """Median time per picture: preprocessing, inference, decoding of the output, suppression."""
    p95_ms: float
    """95th percentile of that time."""
    inference_median_ms: float
    """Median time of the network alone."""
    load_s: float
    """Time to read the model's file and load it."""
    detections: int
    """Objects found; if the number differs between rows, a backend is wrong."""


def bench_model(  # noqa: PLR0913 - one argument a setting, all by name
    model: str,
    pixels: Pixels,
    *,
    backends: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    rounds: int = 50,
    decoder: DecoderName | None = None,
    labels: Sequence[str] | Path | None = None,
    model_dir: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[BenchRow]:
    """Times a model in each backend and with each number of threads, and yields each row as soon as it is measured.

    Args:
        model: A registered name, or the path of an ONNX file.
        pixels: The picture, uint8 [height, width, 3], BGR.
        backends: Names; None: all that are installed, the fastest first.
        threads: Numbers of threads; None: 1, and all cores.
        rounds: Number of timed pictures, after a tenth of them (at least 3) to warm up.
        decoder: The output's layout, for a path.
        labels: Class names or their file, for a path.
        model_dir: Folder of downloaded and own models; None: `registry.model_folder()`.
        clock: Seconds, monotonic.

    Raises:
        ConfigurationError: There is no such model or backend.
        PermanentError: A backend cannot run the model.
    """
    with _opencv_threads_restored():
        for backend in backends if backends is not None else installed_backends():
            for count in threads if threads is not None else sorted({1, os.cpu_count() or 1}):
                cv2.setNumThreads(count)  # OpenCV does the preprocessing, whichever backend runs the network
                start = clock()
                detector = load_detector(
                    model, backend=backend, threads=count, decoder=decoder, labels=labels, model_dir=model_dir
                )
                yield _measure(detector, pixels, count, rounds, clock() - start, clock)


@contextmanager
def _opencv_threads_restored() -> Iterator[None]:
    before = cv2.getNumThreads()
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _measure(
    detector: Detector, pixels: Pixels, threads: int, rounds: int, load_s: float, clock: Callable[[], float]
) -> BenchRow:
    blob, _ = make_blob(pixels, detector.spec)
    found = detector.detect(pixels)
    whole_ms = _time(lambda: detector.detect(pixels), rounds, clock)
    inference_ms = _time(lambda: detector.backend.infer(blob), rounds, clock)
    return BenchRow(
        backend=detector.backend_name,
        threads=threads,
        median_ms=statistics.median(whole_ms),
        p95_ms=sorted(whole_ms)[min(len(whole_ms) - 1, int(0.95 * len(whole_ms)))],
        inference_median_ms=statistics.median(inference_ms),
        load_s=load_s,
        detections=len(found),
    )


def _time(work: Callable[[], object], rounds: int, clock: Callable[[], float]) -> list[float]:
    for _ in range(max(3, rounds // 10)):
        work()
    times_ms = []
    for _ in range(rounds):
        start = clock()
        work()
        times_ms.append(1e3 * (clock() - start))
    return times_ms


@dataclass(frozen=True, slots=True)
class TunedRow:
    """The throughput of one backend and precision with one arrangement of threads."""

    backend: str
    precision: Precision
    """What the model computed in."""
    workers: int
    """Images at a time."""
    threads: int
    """Threads per image."""
    images_per_s: float
    """Images per second: preprocessing, inference, decoding of the output, suppression; without reading files."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The measurements of one model on one machine."""

    model: str
    model_sha256: str
    """SHA-256 of its file."""
    machine: str
    """Identifies the CPU, the usable cores, the GPUs and the versions of the backends (`machine_id`)."""
    measured_at: str
    """Time of the measurement, UTC."""
    rows: tuple[TunedRow, ...]
    """In the order of measurement."""

    def best(self, workers: int, backend: str = "auto") -> TunedRow | None:
        """Returns the fastest row with this number of workers, in one backend or any; None if there is none."""
        fitting = [row for row in self.rows if row.workers == workers and backend in ("auto", row.backend)]
        return max(fitting, key=lambda row: row.images_per_s, default=None)

    def covers(self, workers: int, backends: Iterable[str]) -> bool:
        """Returns whether all of these backends were measured with this number of workers."""
        return {row.backend for row in self.rows if row.workers == workers}.issuperset(backends)


def machine_id() -> str:
    """Returns a hash of the CPU, usable cores, GPUs and versions of the backends, 16 hexadecimal digits."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = ""
    gpus = sorted(
        path.read_text(errors="replace").split("IRQ")[0]
        for path in Path("/proc/driver/nvidia/gpus").glob("*/information")
    )
    parts = (platform.machine(), sorted(cpu_flags()), usable_cores(), versions, gpus)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def tuning_path(folder: Path, model_sha256: str, machine: str) -> Path:
    """Returns the path of a stored result, inside the folder of models."""
    return folder / "tuning" / f"{machine}-{model_sha256[:16]}.json"


def read_tuning(folder: Path, model_sha256: str) -> Tuning | None:
    """Returns the stored result of a model on this machine; None if there is none, or its file is damaged."""
    try:
        data: dict[str, Any] = json.loads(tuning_path(folder, model_sha256, machine_id()).read_text(encoding="utf-8"))
        return Tuning(**{**data, "rows": tuple(TunedRow(**row) for row in data["rows"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_tuning(folder: Path, tuning: Tuning) -> Path:
    """Stores a result and returns its path.

    Raises:
        PermanentError: The folder cannot be written.
    """
    path = tuning_path(folder, tuning.model_sha256, tuning.machine)
    write_whole(path, (json.dumps(asdict(tuning), indent=1) + "\n").encode())
    return path


def exclusive_tuning(folder: Path) -> AbstractContextManager[None]:
    """Makes other processes that measure wait, because measuring at the same time slows both down.

    Raises:
        PermanentError: The folder of models cannot be written.
    """
    return one_at_a_time(folder / "tuning" / "lock")


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
    """Measures a model in each backend and precision that this machine supports.

    Args:
        spec: The model.
        content: Its ONNX file, as `read_verified` returns it.
        arrangements: Numbers of workers and of threads of each worker.
        backend: Only this one; `auto`: all that are installed.
        seconds: How long each row is measured.
        now: Stored as the time of the measurement.
        told: Called with each row.
        clock: Seconds, monotonic.

    Returns:
        The result; it is not stored yet.

    Raises:
        ConfigurationError: The backend is not installed.
        PermanentError: A backend cannot run the model.
    """
    rows, network_bytes = [], runnable(spec, content)
    with _opencv_threads_restored():
        for workers, threads in arrangements:
            for name, precision in _candidates(spec, content, backend):
                cv2.setNumThreads(threads)
                try:
                    network = open_backend(name, network_bytes, threads=threads, precision=precision)
                except ConfigurationError:
                    if precision == "bf16":  # not supported by this CPU
                        continue
                    raise
                rate = _rate(Detector(spec, "", network, precision=precision), workers, seconds, clock)
                rows.append(TunedRow(name, precision, workers, threads, rate))
                told(rows[-1])
    sha256 = hashlib.sha256(content).hexdigest()
    return Tuning(spec.name, sha256, machine_id(), format_time(now), tuple(rows))


def _candidates(spec: ModelSpec, content: bytes, backend: str) -> Iterator[tuple[str, Precision]]:
    names = installed_backends() if backend == "auto" else (backend,)
    precision = choose_precision("fp32", content, spec.name)
    yield from ((name, precision) for name in names)
    if precision == "fp32" and NARROW_BACKEND in names:
        yield NARROW_BACKEND, "bf16"
    if precision == "fp32" and GPU_BACKEND in names:
        yield GPU_BACKEND, "fp16"


def _rate(detector: Detector, workers: int, seconds: float, clock: Callable[[], float]) -> float:
    """Returns how many images per second a number of workers process."""
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
