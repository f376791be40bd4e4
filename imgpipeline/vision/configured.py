"""Loads the detector that the settings name, and describes what it computes in."""

import importlib.util
import logging
from dataclasses import dataclass

from imgpipeline.contracts.times import Hours, find_timezone, utc_now
from imgpipeline.settings import Settings
from imgpipeline.settings.model import parse_detectors
from imgpipeline.vision.backends import GPU_BACKEND, NARROW_BACKEND, installed_backends, missing_gpu, usable_cores
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.detector_group import DetectorGroup, Member
from imgpipeline.vision.gate import Gate
from imgpipeline.vision.model_files import read_verified
from imgpipeline.vision.precision import Precision
from imgpipeline.vision.registry import find_model, model_folder
from imgpipeline.vision.speed import Tuning, exclusive_tuning, read_tuning, tune_model, write_tuning

_log = logging.getLogger(__name__)
_MOST_WORKERS = 16
"""More workers would only wait for Python's lock; with more cores, each image gets several threads."""


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
class Chosen:
    """The backend and precision for one model."""

    backend: str
    """Name of the backend; `auto`: the one that is generally the fastest."""
    precision: Precision
    """What it computes in."""
    reason: str
    """Why, in a few words; empty if the settings name them."""


def choose_by_speed(settings: Settings, model: str, workers: int) -> Chosen:
    """Returns backend and precision as set; for `IMGPIPELINE_PRECISION=auto`, the fastest measured ones.

    The first call measures, and so does a call that allows backends that were not measured.

    Args:
        settings: The model's folder and layout, backend and precision.
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
