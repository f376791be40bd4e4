"""Looking at stored pictures: from a frame of a day to what a model finds in it.

Owns the border at which a picture's own fault becomes the frame's outcome; what store and machine cause passes
through as an error. Pictures are read ahead by some threads, and as many threads as there are cores decode and detect.
Memory is bounded as in detection runs: large files are read, and large pictures decoded, one at a time.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ImageReader
from imgpipeline.objectstore.ahead import map_ahead
from imgpipeline.settings import Settings
from imgpipeline.vision.configured import decoded_for, detect_workers
from imgpipeline.vision.decode import ImageLimits, decode_image, read_header
from imgpipeline.vision.detector import Detector

_LARGE_PIXELS = 3840 * 2160
_LARGE_BYTES = 8 * 2**20
"""As in detection runs: what cameras commonly make is within."""
_MOST_READERS = 16


class LookOutcome(StrEnum):
    """What became of one frame."""

    PROCESSED = "processed"
    """The model has looked at its picture."""
    GATED = "gated"
    """It was left out before live detection, and is here too."""
    FAILED = "failed"
    """Its picture cannot be had any more."""


@dataclass(frozen=True, slots=True)
class FrameToSee:
    """One frame of a day."""

    frame_id: str
    """Names it within its day."""
    path: str
    """Where its image is stored; empty where nobody said so."""
    size_bytes: int
    """Size of the image when it was detected live; 0 where that is unknown."""
    status: str
    """`processed` or `gated`, as live."""
    gate_reason: str | None
    """Why it was gated."""


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """One frame with its outcome."""

    frame: FrameToSee
    """The frame."""
    outcome: LookOutcome
    """What became of it."""
    code: str | None = None
    """Why it failed (a code of dead letters) or was gated."""
    message: str | None = None
    """What was wrong, for a person."""
    detections: tuple[Detection, ...] = ()
    """What was found, strongest first."""


_Read = tuple[FrameToSee, bytes | SeenFrame | None]
"""A frame with its image, with its outcome, or with None where the image is so large that it is read while looking."""


@dataclass(frozen=True, slots=True)
class PictureLooker:
    """Turns frames into outcomes. May be called from many threads.

    Guarantees:
        Whatever a picture is, its frame has an outcome; only what the environment causes is raised.
    """

    settings: Settings
    """Limits, and how much is done at a time."""
    images: ImageReader
    """Reads stored images."""
    detector: Detector
    """The model."""
    _large: threading.RLock = field(default_factory=threading.RLock)

    def look_at_all(self, frames: Iterable[FrameToSee]) -> Iterator[SeenFrame]:
        """Yields the outcome of each frame, in the order of the frames.

        Args:
            frames: Taken as room comes.

        Raises:
            TransientError: The store is in trouble, or memory is short.
            ForbiddenError: The store refuses the pipeline's own prefix.
            PermanentError: The detector does not work.
        """
        ahead = self.settings.prefetch_images
        lookers = detect_workers(self.settings)
        read = map_ahead(self.read, frames, workers=min(_MOST_READERS, max(2, ahead // 2)), ahead=ahead)
        return map_ahead(self.look, read, workers=lookers, ahead=2 * lookers)

    def read(self, frame: FrameToSee) -> _Read:
        """Reads a frame's image; errors as `look_at_all`."""
        if frame.status != FrameStatus.PROCESSED.value:
            return frame, SeenFrame(frame, LookOutcome.GATED, frame.gate_reason)
        try:
            return frame, self._fetch(frame, min(_LARGE_BYTES, self.settings.max_image_bytes))
        except BadInputError as error:
            if error.code is DeadLetterCode.TOO_LARGE and self.settings.max_image_bytes > _LARGE_BYTES:
                return frame, None
            return frame, _failed(frame, error)

    def look(self, read: _Read) -> SeenFrame:
        """Decodes an image and finds the objects in it; errors as `look_at_all`."""
        frame, data = read
        if isinstance(data, SeenFrame):
            return data
        reach("look again", frame.path)
        try:
            if data is not None:
                return self._detect(frame, data)
            with self._large:
                return self._detect(frame, self._fetch(frame, self.settings.max_image_bytes))
        except BadInputError as error:
            return _failed(frame, error)

    def _fetch(self, frame: FrameToSee, max_bytes: int) -> bytes:
        if not frame.path:
            raise BadInputError(DeadLetterCode.OBJECT_NOT_FOUND, "The frame names no image.")
        data = self.images.read(frame.path, max_bytes=max_bytes).data
        if frame.size_bytes not in (0, len(data)):
            raise BadInputError(
                DeadLetterCode.HASH_MISMATCH,
                f"The image has {len(data)} bytes; it had {frame.size_bytes} when the frame was detected live.",
            )
        return data

    def _detect(self, frame: FrameToSee, data: bytes) -> SeenFrame:
        header = read_header(data)
        with self._one_large_at_a_time(header.width * header.height):
            limits = ImageLimits(self.settings.max_image_pixels, self.settings.max_image_bytes)
            image = decode_image(data, limits, reduced_for=decoded_for(self.settings, self.detector))
            found = self.detector.detect(image)
        return SeenFrame(frame, LookOutcome.PROCESSED, detections=tuple(found))

    def _one_large_at_a_time(self, pixels: int) -> AbstractContextManager[object]:
        return self._large if pixels > _LARGE_PIXELS else nullcontext()


def _failed(frame: FrameToSee, error: BadInputError) -> SeenFrame:
    return SeenFrame(frame, LookOutcome.FAILED, error.code.value, error.message)
