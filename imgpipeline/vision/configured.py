"""Loads the detector that the settings name, measures which backend is the fastest, and describes what is used.

`IMGPIPELINE_PRECISION=auto` takes the fastest backend and precision that `tune_model` measured. The result is stored
for each machine and model; if there is none, the first start measures.
"""

import hashlib
import importlib.util
import json
import logging
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from imgpipeline.contracts.times import Hours, find_timezone, format_time, utc_now
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.settings.model import parse_detectors
from imgpipeline.vision.backends import (
    GPU_BACKEND,
    NARROW_BACKEND,
    installed_backends,
    missing_gpu,
    open_backend,
    usable_cores,
)
from imgpipeline.vision.detector import Detector, DetectorGroup, Member, load_detector
from imgpipeline.vision.gate import Gate
from imgpipeline.vision.model import ModelSpec
from imgpipeline.vision.model_files import one_at_a_time, read_verified, runnable, write_whole
from imgpipeline.vision.precision import Precision, choose_precision, cpu_flags
from imgpipeline.vision.registry import find_model, model_folder

_log = logging.getLogger(__name__)
_MOST_WORKERS = 16
"""More workers would only wait for Python's lock; with more cores, each image gets several threads."""
_PACKAGES: Final = ("onnxruntime", "onnxruntime-gpu", "openvino", "opencv-python", "numpy")
_WARM_UP: Final = 3


def load_configured_detector(settings: Settings) -> Detector:
    """Loads the detector, or the group of detectors, for runs, checks and previews; errors as `load_detector`."""
    if settings.detectors is None:
        return _load(settings, settings.model)
    group = []
    for chosen in parse_detectors(settings.detectors):
        detector = _load(settings.model_copy(update={"model_decoder": None, "model_labels": None}), chosen.model)
        group.append(Member(detector, frozenset(chosen.labels or detector.spec.labels)))
    return DetectorGroup(group)


def _load(settings: Settings, model: str) -> Detector:
    chosen = choose_by_speed(settings, model, detect_workers(settings))
    detector = load_detector(
        model,
        backend=chosen.backend,
        confidence_threshold=settings.confidence_threshold,
        nms_threshold=settings.nms_threshold,
        nms_per_class=settings.nms_per_class,
        threads=_threads(settings, detect_workers(settings)),
        precision=chosen.precision,
        integer_boxes=settings.integer_boxes,
        decoder=settings.model_decoder,
        labels=settings.model_labels,
        model_dir=settings.model_dir,
    )
    detector.chosen_because = chosen.reason
    return detector


def configured_gate(settings: Settings) -> Gate:
    """Returns the gate of detection runs."""
    hours = Hours.parse(settings.gate_hours, find_timezone(settings.timezone)) if settings.gate_hours else None
    return Gate(settings.gate_min_brightness, settings.gate_min_sharpness, settings.gate_min_change, hours)


def detect_workers(settings: Settings) -> int:
    """Returns how many images are decoded and detected at a time: as set, or one per core.

    Several images with one thread each are faster than one image with several threads, because everything except
    inference runs in one thread per image.
    """
    return settings.detect_workers or min(usable_cores(), _MOST_WORKERS)


def _threads(settings: Settings, workers: int) -> int:
    return settings.model_threads or max(1, usable_cores() // workers)


@dataclass(frozen=True, slots=True)
class TunedRow:
    """The throughput of one backend and precision with one arrangement of threads."""

    backend: str
    precision: Precision
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
    machine: str
    """Identifies the CPU, the usable cores, the GPUs and the versions of the backends (`machine_id`)."""
    measured_at: str
    rows: tuple[TunedRow, ...]

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
    """Makes other processes that measure wait, because that slows both down; errors as `write_tuning`."""
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
) -> Tuning:
    """Measures a model in each backend and precision that this machine supports. The result is not stored yet.

    Args:
        content: Its ONNX file, as `read_verified` returns it.
        arrangements: Numbers of workers and of threads of each worker.
        backend: Only this one; `auto`: all that are installed.
        seconds: How long each row is measured.
        now: Stored as the time of the measurement.
        told: Called with each row.

    Raises:
        ConfigurationError: The backend is not installed.
        PermanentError: A backend cannot run the model.
    """
    rows, network_bytes, opencv_threads = [], runnable(spec, content), cv2.getNumThreads()
    try:
        for workers, threads in arrangements:
            for name, precision in _candidates(spec, content, backend):
                cv2.setNumThreads(threads)  # OpenCV does the preprocessing, whichever backend runs the network
                try:
                    network = open_backend(name, network_bytes, threads=threads, precision=precision)
                except ConfigurationError:
                    if precision == "bf16":  # not supported by this CPU
                        continue
                    raise
                rate = _rate(Detector(spec, "", network, precision=precision), workers, seconds)
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
    if precision == "fp32" and GPU_BACKEND in names:
        yield GPU_BACKEND, "fp16"


def _rate(detector: Detector, workers: int, seconds: float) -> float:
    """Returns how many images per second a number of workers process."""
    pixels = np.full((480, 640, 3), 114, np.uint8)
    for _ in range(_WARM_UP):
        detector.detect(pixels)
    began_s = time.perf_counter()

    def work() -> int:
        count = 0
        while count == 0 or time.perf_counter() < began_s + seconds:
            detector.detect(pixels)
            count += 1
        return count

    with ThreadPoolExecutor(workers) as pool:
        count = sum(one.result() for one in [pool.submit(work) for _ in range(workers)])
    return count / max(time.perf_counter() - began_s, 1e-9)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The backend and precision for one model."""

    backend: str
    """Name of the backend; `auto`: the one that is generally the fastest."""
    precision: Precision
    reason: str
    """Why, in a few words; empty if the settings name them."""


def choose_by_speed(settings: Settings, model: str, workers: int) -> Chosen:
    """Returns backend and precision as set; for `IMGPIPELINE_PRECISION=auto`, the fastest measured ones.

    The first call measures, and so does a call that allows backends that were not measured.

    Args:
        settings: Name folder, layout, backend and precision.
        model: A registered name, or the path of an ONNX file.
        workers: Images at a time; only measurements with the same number count.

    Raises:
        ConfigurationError: The model or the backend is missing.
        PermanentError: The model cannot be run, or the folder of models cannot be written.
    """
    if settings.precision != "auto":
        return Chosen(settings.model_backend, settings.precision, "")
    spec = find_model(model, settings.model_decoder, settings.model_labels, model_dir=settings.model_dir)
    content, sha256 = read_verified(spec)
    folder, backend = model_folder(settings.model_dir), settings.model_backend
    with exclusive_tuning(folder):
        tuning = read_tuning(folder, sha256)
        # A run with a backend of its own has measured only that one.
        backends = installed_backends() if backend == "auto" else (backend,)
        best = tuning.best(workers, backend) if tuning and tuning.covers(workers, backends) else None
        if tuning is None or best is None:
            arrangements = ((workers, _threads(settings, workers)),)
            tuning = tune_model(spec, content, arrangements=arrangements, backend=backend, now=utc_now())
            write_tuning(folder, tuning)
            best = max(tuning.rows, key=lambda row: row.images_per_s)
    reason = _reason(tuning, workers)
    _log.info("IMGPIPELINE_PRECISION=auto: %s", reason)
    return Chosen(best.backend, best.precision, reason)


def _reason(tuning: Tuning, workers: int) -> str:
    rows = sorted((row for row in tuning.rows if row.workers == workers), key=lambda row: -row.images_per_s)
    rates = ", ".join(f"{row.backend} {row.precision} {row.images_per_s:.1f}" for row in rows)
    return f"images/s with {workers} workers, measured {tuning.measured_at}: {rates}"


def describe_use(detector: Detector) -> str:
    """Returns the device, backend and precision of a detector, and why it does not use others."""
    no_gpu = missing_gpu()
    is_on_gpu = detector.backend_name == GPU_BACKEND
    fp16 = f"needs a GPU: {no_gpu}" if no_gpu else "possible with IMGPIPELINE_PRECISION=fp16"
    others = {"bf16": _bf16(detector), "int8": _int8(detector), "fp16": fp16}
    unused = [f"{name}: {why}" for name, why in others.items() if name != detector.precision]
    if not is_on_gpu:
        unused.append(f"GPU: {no_gpu or f'possible with IMGPIPELINE_MODEL_BACKEND={GPU_BACKEND}'}")
    why = f", chosen by IMGPIPELINE_PRECISION=auto ({detector.chosen_because})" if detector.chosen_because else ""
    device = "GPU" if is_on_gpu else "CPU"
    return f"runs in {detector.backend_name} on the {device}, in {detector.precision}{why}. " + "; ".join(unused)


def _bf16(detector: Detector) -> str:
    if detector.precision == "int8":
        return "not for a quantized model"
    if importlib.util.find_spec(NARROW_BACKEND) is None:
        return f"needs the package {NARROW_BACKEND}"
    from imgpipeline.vision.backends.openvino_backend import missing_bf16  # noqa: PLC0415 - the package is optional

    return missing_bf16() or "possible with IMGPIPELINE_PRECISION=bf16"


def _int8(detector: Detector) -> str:
    return f"needs a quantized model (imgpipeline models quantize {detector.model_name} --images DIR)"
