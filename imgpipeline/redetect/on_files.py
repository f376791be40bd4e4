"""Compares two models on image files, without a store; one of them is the reference."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from imgpipeline.contracts.detection import DetectorUse
from imgpipeline.detect.files import detect_files
from imgpipeline.errors import BadInputError
from imgpipeline.objectstore.files import InputFile
from imgpipeline.settings import Settings
from imgpipeline.vision.agreement import Agreement, Found, measure_agreement
from imgpipeline.vision.detector import Detector


@dataclass(frozen=True, slots=True)
class FileComparison:
    """The comparison of two models on the same files."""

    reference: DetectorUse
    other: DetectorUse
    agreement: Agreement
    unreadable: tuple[tuple[str, BadInputError], ...]
    """Files that are not images, and why."""


def compare_on_files(
    settings: Settings,
    files: Sequence[InputFile],
    reference: Detector,
    other: Detector,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> FileComparison:
    """Runs two models on the same files and compares their detections.

    Raises:
        ConfigurationError: A file cannot be opened.
        PermanentError: A model does not work.
        TransientError: The store does not answer, or there is not enough memory.
    """
    unreadable: list[tuple[str, BadInputError]] = []

    def found() -> Iterator[Found]:
        sides = (detect_files(settings, files, detector) for detector in (reference, other))
        for done, (ours, theirs) in enumerate(zip(*sides, strict=True), 1):
            problem = ours.problem or theirs.problem
            if problem:
                unreadable.append((ours.where, problem))
            else:
                yield ours.detections, theirs.detections
            progress(done, len(files))

    agreement = measure_agreement(found())
    return FileComparison(reference.use, other.use, agreement, tuple(unreadable))
