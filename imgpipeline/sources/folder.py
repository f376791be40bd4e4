"""A folder of images as a source: images are stored unchanged and announced in the order of their paths.

* Source, time and path below the folder identify a frame. So ingesting the same folder again counts nothing twice, and
  adds frames that a crash left out. With a `Pace`, source, time and number identify a frame, so new images must sort
  after the others.
* Files that are not announced are listed with the reason, including files whose content is not an image. A damaged
  image is announced, and the pipeline records it as a dead letter.
* A stored image is never overwritten. An image that changed under the same name is stored and counted as another frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.times import find_timezone
from imgpipeline.settings import Settings
from imgpipeline.sources.image_files import (
    ALL_IMAGES,
    FileChoice,
    FileToRead,
    ImageFile,
    Skipped,
    Unusable,
    find_pictures,
    read_images,
)
from imgpipeline.sources.protocol import Captured, CapturedFrame, SourceKind, checked_source


@dataclass(frozen=True, slots=True)
class Pace:
    """Times to use instead of the images' own: `start`, `start` + `interval_s` and so on."""

    start: datetime
    """Time of the first image, aware."""
    interval_s: float
    """From one number to the next, greater than 0."""
    first: int = 0
    """Number of the first image."""

    def time_of(self, number: int) -> datetime:
        """Returns the time of the image with this number, UTC, to the microsecond."""
        return (self.start + timedelta(seconds=round((number - self.first) * self.interval_s, 6))).astimezone(UTC)


class FolderSource:
    """Image files, as frames in the order given."""

    kind = SourceKind.FINITE

    def __init__(
        self, settings: Settings, files: Sequence[FileToRead], skipped: list[Skipped], name: str, pace: Pace | None
    ) -> None:
        """Takes the listed files.

        Args:
            settings: Limit of the image size, and time zone of EXIF times.
            skipped: The files that are not announced; gets those whose content is not an image.
            name: Source of the frames, 1 to 1,024 printable characters.
            pace: Times instead of the images' own: EXIF's `DateTimeOriginal`, otherwise the modification time.

        Raises:
            UsageError: The name of the source is not valid.
        """
        self.name = checked_source(name)
        self.files = files
        self.skipped = skipped
        self.pace = pace
        self._settings = settings

    @property
    def expected(self) -> int:
        """Number of files."""
        return len(self.files)

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields each image as a frame, and each other file as a failed frame."""
        for read in read_images(self.files, self._settings.max_image_bytes):
            if stop.is_set():
                return
            if isinstance(read, Unusable):
                self.skipped.append(Skipped(read.path, read.reason))
                yield read.as_lost()
            else:
                yield self._frame(read)

    def _frame(self, image: ImageFile) -> CapturedFrame:
        number = image.file.number
        if self.pace:
            time, clock = self.pace.time_of(number), ClockSource.PRODUCER
        else:
            time, clock = image.own_time(find_timezone(self._settings.timezone))
        return CapturedFrame(
            time,
            clock,
            data=image.data,
            number=number if self.pace else None,
            position=number,
            name=image.file.name,
            attributes=image.attributes,
        )


def open_folder(
    settings: Settings, path: Path, name: str, pace: Pace | None = None, *, choice: FileChoice = ALL_IMAGES
) -> FolderSource:
    """Returns the images of a folder and of all folders below it, or one image; arguments as of `FolderSource`.

    Raises:
        ConfigurationError: There is no such folder, or it contains files but no images.
        UsageError: The name of the source is not valid.
    """
    checked_source(name)
    return FolderSource(settings, *find_pictures(path, choice), name, pace)
