"""Detects in stored images again: from a frame of a day to what another model finds in its image."""

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


class LookOutcome(StrEnum):
    """What became of one frame."""

    PROCESSED = "processed"
    """The model has looked at its image."""
    GATED = "gated"
    """It was gated before live detection, and is here too."""
    FAILED = "failed"
    """Its image is no longer available."""


@dataclass(frozen=True, slots=True)
class FrameToProcess:
    """One frame of a day."""

    frame_id: str
    """Identifies it within its day."""
    path: str
    """Where its image is stored; empty if that is unknown."""
    size_bytes: int
    """Size of the image when it was detected live; 0 if that is unknown."""
    status: str
    """`processed` or `gated`, as live."""
    gate_reason: str | None
    """Why it was gated."""


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """One frame with its outcome."""

    frame: FrameToProcess
    """The frame."""
    outcome: LookOutcome
    """What became of it."""
    code: str | None = None
    """Why it failed (a code of dead letters) or was gated."""
    message: str | None = None
    """What was wrong, for a person."""
    detections: tuple[Detection, ...] = ()
    """What was found, the most confident first."""


@dataclass(frozen=True, slots=True)
class ReadPicture(ReadImage):
    """A frame whose image was read."""

    frame: FrameToProcess
    """The frame."""


@dataclass(frozen=True, slots=True)
class PictureLooker:
    """Turns frames into outcomes: an `ImageWork`, for many threads.

    Every frame has an outcome, whatever its image is; only errors of the environment are raised.
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

    def look_at_all(self, frames: Iterable[FrameToProcess]) -> Iterator[SeenFrame]:
        """Yields the outcome of each frame, in the order of the frames.

        Args:
            frames: Taken as there is room for them.

        Raises:
            TransientError: The store is in trouble, or memory is short.
            ForbiddenError: The store refuses the pipeline's own prefix.
            PermanentError: The detector does not work.
        """
        ahead = self.settings.prefetch_images + 2 * detect_workers(self.settings)
        pending: deque[Future[SeenFrame]] = deque()
        with closing(ImagePool.of(self.settings, self)) as pool:
            for frame in frames:
                pending.append(pool.submit(frame))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def read(
        self, item: FrameToProcess, _since_s: float | None = None, /, *, admit: Callable[[int], None] | None = None
    ) -> ReadPicture | SeenFrame:
        """Reads a frame's image; arguments as `ImageWork.read`, errors as `look_at_all`."""
        if item.status != FrameStatus.PROCESSED.value:
            return SeenFrame(item, LookOutcome.GATED, item.gate_reason)
        try:
            return ReadPicture(self._fetch(item, admit), time.perf_counter(), item)
        except BadInputError as error:
            return _failed(item, error)

    def look(self, read: ReadPicture) -> SeenFrame:
        """Decodes an image and finds the objects in it; errors as `look_at_all`."""
        reach("look again", read.frame.path)
        try:
            found = self._image_detector.detect(read.data)
        except BadInputError as error:
            return _failed(read.frame, error)
        return SeenFrame(read.frame, LookOutcome.PROCESSED, detections=found.detections)

    def _fetch(self, frame: FrameToProcess, admit: Callable[[int], None] | None) -> bytes:
        if not frame.path:
            raise BadInputError(DeadLetterCode.OBJECT_NOT_FOUND, "The frame names no image.")
        data = self.images.read(frame.path, admit=admit).data
        if frame.size_bytes not in (0, len(data)):
            raise BadInputError(
                DeadLetterCode.HASH_MISMATCH,
                f"The image has {len(data)} bytes; it had {frame.size_bytes} when the frame was detected live.",
            )
        return data


def _failed(frame: FrameToProcess, error: BadInputError) -> SeenFrame:
    return SeenFrame(frame, LookOutcome.FAILED, error.code.value, error.message)
