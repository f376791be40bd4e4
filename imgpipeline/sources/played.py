"""Videos and image sequences of a data set, played like a camera: at a steady pace, with the current time.

`DATASET/sequences/NAME/` contains the images of a sequence, `DATASET/NAME.mp4` is a video.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from threading import Event

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.sources.folder import FolderSource, Pace
from imgpipeline.sources.image_files import FileToRead
from imgpipeline.sources.protocol import Captured, CapturedFrame, Lost, SourceKind
from imgpipeline.sources.video import VideoSource

_IMAGES = (".jpg", ".png")
_VIDEOS = (".mp4", ".avi", ".mov")


def find_stored_video(settings: Settings, name: str, pace: Pace) -> FolderSource | VideoSource:
    """Finds a sequence or a video of the data set (`settings.dataset_root`).

    Args:
        name: Name of the folder below `sequences/`, or of the video file with or without its ending.

    Raises:
        ConfigurationError: There is no data set, or it has no video or sequence of that name.
    """
    root = settings.dataset_root
    if root is None or not root.is_dir():
        raise ConfigurationError("There is no data set.", next_step="set DATASET_ROOT_DIR to its folder")
    if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise ConfigurationError(f"{name!r} is not the name of a video.")
    folder = root / "sequences" / name
    if folder.is_dir():
        images = sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES)
        if not images:
            raise ConfigurationError(f"The sequence {name} has no images.")
        files = [FileToRead(path, path.name, number) for number, path in enumerate(images)]
        return FolderSource(settings, files, [], name, pace)
    for candidate in (root / name, *(root / f"{name}{ending}" for ending in _VIDEOS)):
        if candidate.suffix.lower() in _VIDEOS and candidate.is_file():
            return VideoSource(candidate, name)
    raise ConfigurationError(f"The data set has no sequence and no video {name}.")


@dataclass(frozen=True, slots=True)
class PlayedVideo:
    """Plays a stored video as a source. Played again from the same start time, it yields the same frames."""

    video: FolderSource | VideoSource
    pace: Pace
    first: int = 0
    """Number of the first frame to play."""
    kind = SourceKind.FINITE

    @property
    def name(self) -> str:
        """The name of the video."""
        return self.video.name

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields each frame when it is due."""
        upcoming = 0
        for captured in self.video.capture(stop):
            if isinstance(captured, CapturedFrame):
                number = captured.number or 0
                upcoming = number + 1
                if number < self.first:
                    continue
                time = self.pace.time_of(number)
                if stop.wait(max(0.0, (time - utc_now()).total_seconds())):
                    return
                attributes = {"video_id": self.name, "frame_id": f"frame_{number:05d}"}
                yield replace(captured, timestamp=time, clock=ClockSource.PRODUCER, name=None, attributes=attributes)
            elif isinstance(captured, Lost) and upcoming >= self.first:
                yield replace(captured, at=None)
