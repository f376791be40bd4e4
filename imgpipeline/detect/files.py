"""Detects objects in image files without Kafka and the ledger, and stores nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, ConfigurationError, DeadLetterCode
from imgpipeline.objectstore.files import InputFile, Selection, find_inputs
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.settings import Settings
from imgpipeline.sources.image_files import IMAGE_ENDINGS
from imgpipeline.vision.annotate import draw_detections, encode_jpeg
from imgpipeline.vision.configured import detect_workers, load_configured_detector
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.image_detector import ImageDetector

_IMAGES = Selection(endings=(*IMAGE_ENDINGS, *(ending.upper() for ending in IMAGE_ENDINGS)), hidden=(".",))


@dataclass(frozen=True, slots=True)
class DetectedFile:
    """The detections in one file."""

    where: str
    """Full path or URL."""
    width: int | None = None
    """Pixels of the upright image; None if it cannot be read."""
    height: int | None = None
    """Pixels of the upright image; None if it cannot be read."""
    detections: tuple[Detection, ...] = ()
    """The most confident first; boxes in pixels of the upright image."""
    models: tuple[str, ...] = ()
    """Names of the models; `detector` of a detection is an index into this list."""
    problem: BadInputError | None = None
    """Why the image could not be processed; None if it was."""
    drawn: Path | None = None
    """The copy of the image with its detections; None if no copy was requested."""


def find_images(locations: Iterable[str], settings: Settings, *, limit: int | None = None) -> list[InputFile]:
    """Lists the images of several locations; arguments and errors as `find_inputs`.

    Args:
        locations: Files, folders, globs, `s3://bucket/prefix`.
        settings: Name the S3 server.
        limit: Maximum number of files to list; None: all.
    """
    return list(islice((file for one in locations for file in find_inputs(one, settings, _IMAGES)), limit))


def detect_files(
    settings: Settings, files: Sequence[InputFile], detector: Detector | None = None, *, draw_into: Path | None = None
) -> Iterator[DetectedFile]:
    """Yields the detections in each file, in the order of the files.

    Args:
        settings: Limits, and the number of threads.
        files: The images.
        detector: The model; None: the configured one.
        draw_into: Folder for copies of the images with their detections, `detected_NAME.jpg`. Creates the folder and
            replaces copies of an earlier call. None: no copies.

    Raises:
        ConfigurationError: The model cannot be loaded, a file cannot be opened, or a copy cannot be written.
        TransientError: The store does not answer, or there was not enough memory.
    """
    images = ImageDetector(settings, detector or load_configured_detector(settings))
    copies = _copies(files, draw_into) if draw_into else [None] * len(files)
    workers = detect_workers(settings)
    yield from map_ahead(
        lambda pair: _detect(settings, images, *pair),
        zip(files, copies, strict=True),
        workers=workers,
        ahead=2 * workers,
    )


def _copies(files: Sequence[InputFile], folder: Path) -> list[Path | None]:
    """Returns the path of each file's copy; files with the same name in several folders get a number."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    used: Counter[str] = Counter()
    copies: list[Path | None] = []
    for file in files:
        stem = PurePosixPath(file.where).stem
        used[stem] += 1
        copies.append(folder / f"detected_{stem}{'' if used[stem] == 1 else f'~{used[stem]}'}.jpg")
    return copies


def _detect(settings: Settings, detector: ImageDetector, file: InputFile, copy: Path | None) -> DetectedFile:
    try:
        if file.size_bytes > settings.max_image_bytes:
            limit = f"the limit is {settings.max_image_bytes} (IMGPIPELINE_MAX_IMAGE_BYTES)"
            raise BadInputError(DeadLetterCode.TOO_LARGE, f"The image has {file.size_bytes} bytes, {limit}.")
        with file.open_raw() as raw:
            data = raw.read()
        found = detector.detect(data)
        if copy is not None:
            _draw(settings, data, found.detections, copy)
    except BadInputError as problem:
        return DetectedFile(file.where, problem=problem)
    models = tuple(one.model_name for one in detector.detector.members)
    return DetectedFile(file.where, found.width, found.height, found.detections, models, drawn=copy)


def _draw(settings: Settings, data: bytes, detections: Sequence[Detection], copy: Path) -> None:
    limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
    pixels = draw_detections(decode_image(data, limits).pixels, detections)
    try:
        copy.write_bytes(encode_jpeg(pixels))
    except OSError as error:
        raise _unwritable(copy, error) from error


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be written: {error.strerror}.", next_step="name a folder that you may write to with --draw"
    )
