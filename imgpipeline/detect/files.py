"""Detects objects in image files, without Kafka and without the ledger: nothing is stored."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.objectstore.ahead import map_ahead
from imgpipeline.objectstore.inputs import InputFile, Selection, find_inputs
from imgpipeline.settings import Settings
from imgpipeline.sources.walk import IMAGE_ENDINGS
from imgpipeline.vision.configured import detect_workers, load_configured_detector
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.image_detector import ImageDetector

_IMAGES = Selection(endings=(*IMAGE_ENDINGS, *(ending.upper() for ending in IMAGE_ENDINGS)), hidden=(".",))


@dataclass(frozen=True, slots=True)
class DetectedFile:
    """What was found in one file."""

    where: str
    """Its full path or URL."""
    width: int | None = None
    """Pixels of the upright image; None if it cannot be read."""
    height: int | None = None
    """Pixels of the upright image; None if it cannot be read."""
    detections: tuple[Detection, ...] = ()
    """The most confident first; boxes in pixels of the upright image."""
    problem: BadInputError | None = None
    """Why nothing could be detected; None if it could."""


def find_images(locations: Iterable[str], settings: Settings, *, limit: int | None = None) -> list[InputFile]:
    """Lists the images of several locations; arguments and errors as `find_inputs`.

    Args:
        locations: Files, folders, globs, `s3://bucket/prefix`.
        settings: Name the S3 server.
        limit: Most files to list; None: all.
    """
    return list(islice((file for one in locations for file in find_inputs(one, settings, _IMAGES)), limit))


def detect_files(
    settings: Settings, files: Iterable[InputFile], detector: Detector | None = None
) -> Iterator[DetectedFile]:
    """Yields what a model finds in each file, in their order.

    Args:
        settings: Limits, and how much is done at a time.
        files: The images.
        detector: The model; None: that of the settings.

    Raises:
        ConfigurationError: The model cannot be loaded, or a file not be opened.
        TransientError: The store does not answer, or there was not enough memory.
    """
    images = ImageDetector(settings, detector or load_configured_detector(settings))
    workers = detect_workers(settings)
    yield from map_ahead(lambda file: _detect(settings, images, file), files, workers=workers, ahead=2 * workers)


def _detect(settings: Settings, detector: ImageDetector, file: InputFile) -> DetectedFile:
    try:
        if file.size_bytes > settings.max_image_bytes:
            limit = f"the limit is {settings.max_image_bytes} (IMGPIPELINE_MAX_IMAGE_BYTES)"
            raise BadInputError(DeadLetterCode.TOO_LARGE, f"The image has {file.size_bytes} bytes, {limit}.")
        with file.open_raw() as raw:
            found = detector.detect(raw.read())
    except BadInputError as problem:
        return DetectedFile(file.where, problem=problem)
    return DetectedFile(file.where, found.width, found.height, found.detections)
