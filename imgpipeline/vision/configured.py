"""The detector that the settings name: the one place where settings become arguments of `load_detector`."""

from imgpipeline.settings import Settings
from imgpipeline.vision.backends.base import usable_cores
from imgpipeline.vision.detector import Detector, load_detector

_MOST_WORKERS = 16
"""More of them than this only wait for Python's lock; with more cores, each picture gets several threads."""


def load_configured_detector(settings: Settings) -> Detector:
    """Loads the detector that runs, checks and previews use; errors as `load_detector`."""
    return load_detector(
        settings.model,
        backend=settings.model_backend,
        confidence_threshold=settings.confidence_threshold,
        nms_threshold=settings.nms_threshold,
        nms_per_class=settings.nms_per_class,
        threads=settings.model_threads or max(1, usable_cores() // detect_workers(settings)),
        decoder=settings.model_decoder,
        labels=settings.model_labels,
        model_dir=settings.model_dir,
    )


def detect_workers(settings: Settings) -> int:
    """Returns how many pictures are decoded and detected at a time: as set, or one a core.

    Several pictures with a thread each are faster than one picture with several threads: decoding and what surrounds
    inference has but one thread a picture.
    """
    return settings.detect_workers or min(usable_cores(), _MOST_WORKERS)
