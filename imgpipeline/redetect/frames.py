"""Runs another model on the stored images of frames."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ImageReader
from imgpipeline.settings import Settings
from imgpipeline.vision.configured import detect_workers
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.image_detector import ImageDetector
from imgpipeline.vision.image_pool import ImagePool, ReadImage


class FrameOutcome(StrEnum):
    """The outcome of one frame."""

    PROCESSED = "processed"
    """The model processed its image."""
    GATED = "gated"
    """It was gated before live detection, so it is not processed here either."""
    FAILED = "failed"
    """Its image is no longer available."""


@dataclass(frozen=True, slots=True)
class FrameToProcess:
    """One frame of a day."""

    frame_id: str
    """Identifies it within its day."""
    path: str
    """Where its image is stored; empty if unknown."""
    size_bytes: int
    """Size of the image at live detection; 0 if unknown."""
    status: str
    """`processed` or `gated`, as in live detection."""
    gate_reason: str | None
    """Why it was gated."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """The result of one frame."""

    frame: FrameToProcess
    outcome: FrameOutcome
    code: str | None = None
    """Why it failed (a code of dead letters) or was gated."""
    message: str | None = None
    """Why it failed, in words."""
    detections: tuple[Detection, ...] = ()
    """The detections, the most confident first."""


@dataclass(frozen=True, slots=True)
class ReadFrame(ReadImage):
    """A frame with its image."""

    frame: FrameToProcess


@dataclass(frozen=True, slots=True)
class FrameProcessor:
    """Turns frames into results; an `ImageWork` for many threads.

    Every frame gets a result, whatever its image is. Only errors of the environment are raised.
    """

    settings: Settings
    """Limits, and how much is done at a time."""
    images: ImageReader
    """Reads stored images."""
    detector: Detector
    """The model."""
    _image_detector: ImageDetector = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_image_detector", ImageDetector(self.settings, self.detector))

    def process_all(self, frames: Iterable[FrameToProcess]) -> Iterator[FrameResult]:
        """Yields the result of each frame, in the order of the frames.

        Args:
            frames: The frames; taken only when there is room for them.

        Raises:
            TransientError: The store does not answer, or there is not enough memory.
            ForbiddenError: The store denies access to the pipeline's own prefix.
            PermanentError: The detector does not work.
        """
        ahead = self.settings.prefetch_images + 2 * detect_workers(self.settings)
        pending: deque[Future[FrameResult]] = deque()
        with closing(ImagePool.of(self.settings, self)) as pool:
            for frame in frames:
                pending.append(pool.submit(frame))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def read(
        self, item: FrameToProcess, _since_s: float | None = None, /, *, admit: Callable[[int], None] | None = None
    ) -> ReadFrame | FrameResult:
        """Reads a frame's image; arguments as `ImageWork.read`, errors as `process_all`."""
        if item.status != FrameStatus.PROCESSED.value:
            return FrameResult(item, FrameOutcome.GATED, item.gate_reason)
        try:
            return ReadFrame(self._fetch(item, admit), time.perf_counter(), item)
        except BadInputError as error:
            return _failed(item, error)

    def look(self, read: ReadFrame) -> FrameResult:
        """Decodes an image and finds the objects in it; errors as `process_all`."""
        reach("look again", read.frame.path)
        try:
            found = self._image_detector.detect(read.data)
        except BadInputError as error:
            return _failed(read.frame, error)
        return FrameResult(read.frame, FrameOutcome.PROCESSED, detections=found.detections)

    def _fetch(self, frame: FrameToProcess, admit: Callable[[int], None] | None) -> bytes:
        if not frame.path:
            raise BadInputError(DeadLetterCode.OBJECT_NOT_FOUND, "The frame names no image.")
        data = self.images.read(frame.path, admit=admit).data
        if frame.size_bytes not in (0, len(data)):
            raise BadInputError(
                DeadLetterCode.HASH_MISMATCH,
                f"The image has {len(data)} bytes; it had {frame.size_bytes} at live detection.",
            )
        return data


def _failed(frame: FrameToProcess, error: BadInputError) -> FrameResult:
    return FrameResult(frame, FrameOutcome.FAILED, error.code.value, error.message)
