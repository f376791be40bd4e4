"""Loads the detector that the settings name."""

from imgpipeline.contracts.times import Hours, find_timezone
from imgpipeline.settings import Settings
from imgpipeline.settings.model import parse_detectors
from imgpipeline.vision.backends.base import usable_cores
from imgpipeline.vision.configured_precision import choose_by_speed
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.detector_group import DetectorGroup, Member
from imgpipeline.vision.gate import Gate

_MOST_WORKERS = 16
"""More workers would only wait for Python's lock; with more cores, each image gets several threads."""


def load_configured_detector(settings: Settings) -> Detector:
    """Loads the detector, or the group of detectors, that runs, checks and previews use; errors as `load_detector`."""
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
        threads=settings.model_threads or max(1, usable_cores() // detect_workers(settings)),
        precision=chosen.precision,
        integer_boxes=settings.integer_boxes,
        decoder=settings.model_decoder,
        labels=settings.model_labels,
        model_dir=settings.model_dir,
    )
    detector.chosen_because = chosen.reason
    return detector


def configured_gate(settings: Settings) -> Gate:
    """Returns which frames detection runs leave out."""
    hours = Hours.parse(settings.gate_hours, find_timezone(settings.timezone)) if settings.gate_hours else None
    return Gate(settings.gate_min_brightness, settings.gate_min_sharpness, settings.gate_min_change, hours)


def detect_workers(settings: Settings) -> int:
    """Returns how many images are decoded and detected at a time: as set, or one per core.

    Several images with one thread each are faster than one image with several threads, because everything except
    inference runs in one thread per image.
    """
    return settings.detect_workers or min(usable_cores(), _MOST_WORKERS)
