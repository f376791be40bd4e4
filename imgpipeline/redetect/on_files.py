"""Compares two models on image files, without a store: a report of one with the other as reference."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from imgpipeline.contracts.detection import DetectorUse
from imgpipeline.detect.files import detect_files
from imgpipeline.errors import BadInputError
from imgpipeline.objectstore.inputs import InputFile
from imgpipeline.settings import Settings
from imgpipeline.vision.agreement import Agreement, Found, measure_agreement
from imgpipeline.vision.detector import Detector


@dataclass(frozen=True, slots=True)
class FileComparison:
    """Two models on the same files."""

    reference: DetectorUse
    """The model that the other one is compared with."""
    other: DetectorUse
    """The other one."""
    agreement: Agreement
    """How far they agree, over the files that can be read."""
    unreadable: tuple[tuple[str, BadInputError], ...]
    """Files that are no image, and why."""


@dataclass(slots=True)
class _Comparing:
    """Files that both models look at, one after the other."""

    settings: Settings
    files: Sequence[InputFile]
    detectors: tuple[Detector, Detector]
    progress: Callable[[int, int], None]
    unreadable: list[tuple[str, BadInputError]] = field(default_factory=list)

    def found(self) -> Iterator[Found]:
        """Yields what both found in each file that can be read."""
        sides = (detect_files(self.settings, self.files, detector) for detector in self.detectors)
        for done, (ours, theirs) in enumerate(zip(*sides, strict=True), 1):
            problem = ours.problem or theirs.problem
            if problem:
                self.unreadable.append((ours.where, problem))
            else:
                yield ours.detections, theirs.detections
            self.progress(done, len(self.files))


def compare_on_files(
    settings: Settings,
    files: Sequence[InputFile],
    reference: Detector,
    other: Detector,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> FileComparison:
    """Lets two models look at the same files.

    Args:
        settings: Limits, and how much is done at a time.
        files: The images.
        reference: The model that the other one is compared with.
        other: The other one.
        progress: Told after each file.

    Raises:
        ConfigurationError: A file cannot be opened.
        PermanentError: A model does not work.
        TransientError: The store does not answer, or there was not enough memory.
    """
    comparing = _Comparing(settings, files, (reference, other), progress)
    agreement = measure_agreement(comparing.found())
    return FileComparison(reference.use, other.use, agreement, tuple(comparing.unreadable))
