"""The pictures of the benchmarks: many different ones of a real street, or drawn ones where that video is missing."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from imgpipeline.sources.simulator import Scene
from imgpipeline.vision.decode import Pixels

_REPOSITORY = Path(__file__).resolve().parents[1]
_JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Different pictures of one size."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    origin: str
    """Where they are from: a file's name, or `simulator`."""
    jpegs: tuple[bytes, ...]
    """Encoded, quality 90."""

    @property
    def name(self) -> str:
        """The size as people write it."""
        return f"{self.width}x{self.height}"

    @property
    def mean_bytes(self) -> float:
        """Mean size of an encoded picture."""
        return sum(map(len, self.jpegs)) / len(self.jpegs)


def shared_data() -> Path:
    """Returns the folder of test data; it may not exist."""
    named = os.environ.get("IMGPIPELINE_TEST_DATA")
    return Path(named) if named else _REPOSITORY.parent / "shared" / "data"


def make_pictures(width: int, height: int, count: int) -> PictureSet:
    """Makes pictures of a size.

    Args:
        width: Pixels.
        height: Pixels.
        count: How many at most; the video has 265.
    """
    video = shared_data() / "video" / "vehicles.mp4"
    frames, origin = (_frames_of(video), video.name) if video.is_file() else (_drawn(count), "simulator")
    jpegs = [_encode(cv2.resize(frame, (width, height))) for frame, _ in zip(frames, range(count), strict=False)]
    return PictureSet(width, height, origin, tuple(jpegs))


def _frames_of(video: Path) -> Iterator[Pixels]:
    capture = cv2.VideoCapture(str(video))
    try:
        while True:
            is_read, frame = capture.read()
            if not is_read:
                return
            yield np.asarray(frame, np.uint8)
    finally:
        capture.release()


def _drawn(count: int) -> Iterator[Pixels]:
    scene = Scene(1, frames=count)
    for number in range(count):
        yield scene.frame(number)[0]


def _encode(picture: cv2.typing.MatLike) -> bytes:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes()
