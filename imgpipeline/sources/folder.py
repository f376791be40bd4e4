"""A folder of images as a source: images are stored unchanged and announced in the order of their paths.

* Source, time and path below the folder identify a frame. So ingesting the same folder again counts nothing twice, and
  adds frames that a crash left out. With a `Pace`, source, time and number identify a frame, so new images must sort
  after the others.
* Files that are not announced are listed with the reason, including files whose content is not an image. A damaged
  image is announced, and the pipeline records it as a dead letter.
* A stored image is never overwritten. An image that changed under the same name is stored and counted as another frame.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.times import find_timezone
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.sources.image_files import ImageFile, Skipped, capture_images, find_pictures
from imgpipeline.sources.ingest import announced_of, ingest_source
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Captured, CapturedFrame, Settled, SourceKind, checked_source
from imgpipeline.sources.storing import StoreTally


@dataclass(frozen=True, slots=True)
class FolderIngest:
    """The result of an ingest of a folder."""

    source: str
    announced: int
    """Frames in Kafka, including those whose images were stored already."""
    stored: int
    already_there: int
    """Images that an earlier ingest stored with the same bytes."""
    changed: int
    """Images stored in addition to another one of the same name and day, because the bytes differ."""
    size_bytes: int
    first_time: datetime | None
    """Earliest time of a frame, UTC; None if there are none."""
    last_time: datetime | None
    """Latest time of a frame, UTC; None if there are none."""
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class Pace:
    """Times to use instead of the images' own: `start`, `start + interval` and so on."""

    start: datetime
    """Time of the first image, aware."""
    interval: timedelta
    """From one image to the next, greater than 0."""

    def time_of(self, number: int) -> datetime:
        """Returns the time of the image with this number, UTC."""
        return (self.start + number * self.interval).astimezone(UTC)


class FolderSource:
    """The images of a folder and of all folders below it, or one image."""

    kind = SourceKind.FINITE

    def __init__(self, settings: Settings, path: Path, name: str, *, pace: Pace | None = None) -> None:
        """Lists the files.

        Args:
            settings: Limit of the image size, and time zone of EXIF times.
            name: Source of the frames, 1 to 1,024 printable characters.
            pace: Times instead of the images' own: EXIF's `DateTimeOriginal`, otherwise the modification time.

        Raises:
            ConfigurationError: There is no such folder, or it contains files but no images.
            UsageError: The name of the source is not valid.
        """
        self.name = checked_source(name)
        self._settings = settings
        self._pace = pace
        self.files, self.skipped = find_pictures(path)
        self.announced_bytes = 0
        self.times: tuple[datetime, datetime] | None = None

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields the images in the order of their paths."""
        return capture_images(self.files, self._settings.max_image_bytes, stop, self.skipped, self._frame)

    def _frame(self, image: ImageFile) -> CapturedFrame:
        if self._pace:
            time, clock = self._pace.time_of(image.file.number), ClockSource.PRODUCER
        else:
            time, clock = image.own_time(find_timezone(self._settings.timezone))
        return CapturedFrame(
            time,
            clock,
            data=image.data,
            number=image.file.number if self._pace else None,
            position=image.file.number,
            name=image.file.name,
            attributes=image.attributes,
            settle=lambda how: self._count(time, len(image.data)) if how is Settled.ANNOUNCED else None,
        )

    def _count(self, time: datetime, size_bytes: int) -> None:
        first, last = self.times or (time, time)
        self.times = (min(first, time), max(last, time))
        self.announced_bytes += size_bytes


def ingest_folder(
    settings: Settings,
    path: Path,
    source: str,
    *,
    pace: Pace | None = None,
    store: ObjectStore | None = None,
    options: PublishOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FolderIngest:
    """Stores and announces the images of a folder, or one image.

    Args:
        store: Where to put the images; None: the store of the settings.
        progress: Called with the number of announced images and the total.

    Raises:
        ConfigurationError: There is no such folder, it contains files but no images, or a setting is wrong.
        UsageError: The name of the source is not valid.
        KeyboardInterrupt: Ctrl-C; `progress` was last called with the number of announced images.
        TransientError: The broker does not answer at the start.
    """
    folder, tally = FolderSource(settings, path, source, pace=pace), StoreTally()
    step = announced_of(progress, len(folder.files))
    totals = ingest_source(settings, folder, store=store, options=options, progress=step, tally=tally)
    first, last = folder.times or (None, None)
    return FolderIngest(
        source=source,
        announced=totals.announced,
        stored=tally.new,
        already_there=totals.announced - tally.new - tally.changed,
        changed=tally.changed,
        size_bytes=folder.announced_bytes,
        first_time=first,
        last_time=last,
        skipped=tuple(folder.skipped),
    )
