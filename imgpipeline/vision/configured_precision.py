"""What `IMGPIPELINE_PRECISION=auto` means on this machine: the fastest measured backend and precision, and why."""

import logging
from dataclasses import dataclass

from imgpipeline.contracts.times import utc_now
from imgpipeline.settings import Settings
from imgpipeline.vision.backends.base import usable_cores
from imgpipeline.vision.detector import read_verified
from imgpipeline.vision.precision import PrecisionSetting
from imgpipeline.vision.registry import find_model, model_folder
from imgpipeline.vision.tuning import Tuning, one_at_a_time, read_tuning, tune_model, write_tuning

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What one model computes with."""

    backend: str
    """Name of the backend, or `auto` for the fastest one in general."""
    precision: PrecisionSetting
    """What it computes in."""
    reason: str
    """Why, in a few words; empty if the settings say it."""


def choose_by_speed(settings: Settings, model: str, workers: int) -> Chosen:
    """Returns backend and precision as set; for `auto`, the fastest that was measured. The first call measures.

    Args:
        settings: Say how the model is found, and its backend and precision.
        model: A registered name, or the path of an ONNX file.
        workers: Images at a time; only what was measured with as many counts.

    Raises:
        ConfigurationError: The model or the backend is not here.
        PermanentError: The model cannot be run, or the folder of models cannot be written.
    """
    if settings.precision != "auto":
        return Chosen(settings.model_backend, settings.precision, "")
    spec = find_model(model, settings.model_decoder, settings.model_labels, model_dir=settings.model_dir)
    content, sha256 = read_verified(spec)
    folder, backend = model_folder(settings.model_dir), settings.model_backend
    with one_at_a_time(folder):
        tuning = read_tuning(folder, sha256)
        best = tuning.best(workers, backend) if tuning else None
        if tuning is None or best is None:
            threads = settings.model_threads or max(1, usable_cores() // workers)
            tuning = tune_model(spec, content, arrangements=((workers, threads),), backend=backend, now=utc_now())
            write_tuning(folder, tuning)
            best = max(tuning.rows, key=lambda row: row.images_per_s)
    reason = _reason(tuning, workers)
    _log.info("IMGPIPELINE_PRECISION=auto: %s", reason)
    return Chosen(best.backend, best.precision, reason)


def _reason(tuning: Tuning, workers: int) -> str:
    rows = sorted((row for row in tuning.rows if row.workers == workers), key=lambda row: -row.images_per_s)
    rates = ", ".join(f"{row.backend} {row.precision} {row.images_per_s:.1f}" for row in rows)
    return f"images/s with {workers} workers, measured {tuning.measured_at}: {rates}"
