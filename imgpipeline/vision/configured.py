"""The detector that the settings name: the one place where settings become arguments of `load_detector`."""

from imgpipeline.settings import Settings
from imgpipeline.vision.detector import Detector, load_detector


def load_configured_detector(settings: Settings) -> Detector:
    """Loads the detector that runs, checks and previews use; errors as `load_detector`."""
    return load_detector(
        settings.model,
        backend=settings.model_backend,
        confidence_threshold=settings.confidence_threshold,
        nms_threshold=settings.nms_threshold,
        nms_per_class=settings.nms_per_class,
        threads=settings.model_threads,
        decoder=settings.model_decoder,
        labels=settings.model_labels,
        model_dir=settings.model_dir,
    )
