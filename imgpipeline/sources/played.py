"""Videos and image sequences of a data set, played like a camera: at a steady pace, with the current time.

`DATASET/sequences/NAME/` contains the images of a sequence, `DATASET/NAME.mp4` is a video.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

import numpy as np

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.protocol import Captured, CapturedFrame, SourceKind
from imgpipeline.sources.video import FrameChoice, VideoFrame, read_frames

_IMAGES = (".jpg", ".png")
_VIDEOS = (".mp4", ".avi", ".mov")


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """A sequence or a video of a data set."""

    name: str
    images: tuple[Path, ...] = ()
    file: Path | None = None
    """The video, if it is not a sequence."""

    @property
    def frames(self) -> int | None:
        """Number of frames; None: unknown until the video is read."""
        return None if self.file else len(self.images)

    def read(self, first: int) -> Iterator[tuple[int, bytes | np.ndarray]]:
        """Yields number and encoded image or pixels of each frame, starting with a number."""
        if self.file is None:
            for number in range(first, len(self.images)):
                yield number, self.images[number].read_bytes()
            return
        for frame in read_frames(self.file, FrameChoice()):
            if isinstance(frame, VideoFrame) and frame.number >= first:
                yield frame.number, frame.pixels


def find_stored_video(root: Path | None, name: str) -> StoredVideo:
    """Finds a sequence or a video of a data set.

    Args:
        name: Name of the folder below `sequences/`, or of the video file with or without its ending.

    Raises:
        ConfigurationError: There is no data set, or it has no video or sequence of that name.
    """
    if root is None or not root.is_dir():
        raise ConfigurationError("There is no data set.", next_step="set DATASET_ROOT_DIR to its folder")
    if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise ConfigurationError(f"{name!r} is not the name of a video.")
    folder = root / "sequences" / name
    if folder.is_dir():
        images = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES))
        if not images:
            raise ConfigurationError(f"The sequence {name} has no images.")
        return StoredVideo(name, images)
    for candidate in (root / name, *(root / f"{name}{ending}" for ending in _VIDEOS)):
        if candidate.suffix.lower() in _VIDEOS and candidate.is_file():
            return StoredVideo(name, file=candidate)
    raise ConfigurationError(f"The data set has no sequence and no video {name}.")


@dataclass(frozen=True, slots=True)
class PlayedVideo:
    """Plays a stored video as a source. Played again from the same start time, it yields the same frames."""

    video: StoredVideo
    started: datetime
    """Time of its first frame, UTC."""
    interval_s: float
    """From one frame to the next."""
    first: int = 0
    """Number of the first frame to play."""
    kind = SourceKind.FINITE

    @property
    def name(self) -> str:
        """The name of the video."""
        return self.video.name

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields each frame when it is due."""
        for number, image in self.video.read(self.first):
            time = self.started + number * timedelta(seconds=self.interval_s)
            if stop.wait(max(0.0, (time - utc_now()).total_seconds())):
                return
            yield CapturedFrame(
                time,
                ClockSource.PRODUCER,
                data=image if isinstance(image, bytes) else None,
                pixels=None if isinstance(image, bytes) else image,
                number=number,
                attributes={"video_id": self.name, "frame_id": f"frame_{number:05d}"},
            )
