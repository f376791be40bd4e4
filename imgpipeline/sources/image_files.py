"""Reads image files: their bytes unchanged, their times, and why a file is not an image."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from threading import Event

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.message_fields import MAX_TEXT
from imgpipeline.errors import UsageError
from imgpipeline.objectstore.ahead import map_ahead
from imgpipeline.sources.exif_time import read_taken_time
from imgpipeline.sources.file_kinds import HEAD_BYTES, describe_other
from imgpipeline.sources.protocol import Captured, CapturedFrame, Lost, Settled
from imgpipeline.sources.walk import Skipped

_READERS = 4
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class FileToRead:
    """One file of a source."""

    path: Path
    """Where it lies."""
    name: str
    """Its path below the folder of the source."""
    number: int
    """Its number within the source, from 0."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image as it was read."""

    file: FileToRead
    """Which file."""
    data: bytes
    """Its bytes."""
    modified: datetime
    """Its modification time, UTC."""

    @property
    def attributes(self) -> dict[str, str]:
        """The name as an attribute of the announcement; bytes that are not UTF-8 are replaced."""
        return {"file": self.file.name.encode("utf-8", "replace").decode()}

    def own_time(self, zone: tzinfo) -> tuple[datetime, ClockSource]:
        """Returns the EXIF time as UTC (without an offset: local time of the zone), otherwise the modification time."""
        taken = read_taken_time(self.data, zone)
        return (taken, ClockSource.EXIF) if taken else (self.modified, ClockSource.PRODUCER)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A file that cannot be announced as an image."""

    skipped: Skipped
    """Which one, and why."""
    modified: datetime | None
    """Its modification time, UTC; None if it cannot be read."""

    def as_lost(self) -> Lost:
        """Returns it as a failed frame, for the accounts."""
        return Lost("not_an_image", kind=Settled.FAILED, at=self.modified)


def read_images(files: Iterable[FileToRead], max_bytes: int) -> Iterator[ImageFile | Unusable]:
    """Yields the files in their order, read several at a time."""
    return map_ahead(lambda file: read_image(file, max_bytes), files, workers=_READERS, ahead=_AHEAD)


def capture_images(
    files: Iterable[FileToRead],
    max_bytes: int,
    stop: Event,
    skipped: list[Skipped],
    frame: Callable[[ImageFile], CapturedFrame],
) -> Iterator[Captured]:
    """Yields the images among some files as frames, and the other files as failed frames.

    Args:
        files: The files, in the order of the frames.
        max_bytes: A larger file is not read.
        stop: Ends the iteration.
        skipped: Gets the files that are not images.
        frame: Makes the frame of an image.
    """
    for read in read_images(files, max_bytes):
        if stop.is_set():
            return
        if isinstance(read, Unusable):
            skipped.append(read.skipped)
            yield read.as_lost()
        else:
            yield frame(read)


def read_image(file: FileToRead, max_bytes: int) -> ImageFile | Unusable:
    """Reads one file.

    Args:
        file: Which one.
        max_bytes: A larger file is not read.
    """
    modified = None
    try:
        stat = file.path.stat()
        modified = datetime.fromtimestamp(stat.st_mtime, UTC)
        if stat.st_size > max_bytes:
            limit = f"the limit is {max_bytes} (IMGPIPELINE_MAX_IMAGE_BYTES)"
            return Unusable(Skipped(file.name, f"{stat.st_size} bytes; {limit}"), modified)
        data = file.path.read_bytes()
    except OSError as error:
        return Unusable(Skipped(file.name, f"cannot be read: {error.strerror}"), modified)
    if other := describe_other(data[:HEAD_BYTES], file.path):
        return Unusable(Skipped(file.name, f"not an image: {other.what}"), modified)
    return ImageFile(file, data, modified)


def checked_source(name: str) -> str:
    """Returns the name of a source, checked.

    Raises:
        UsageError: It is empty, too long, or not printable.
    """
    if not name.strip() or len(name) > MAX_TEXT or "\0" in name or not name.isprintable():
        raise UsageError(f"{name!r} is not a valid source name.", next_step=f"use 1 to {MAX_TEXT} printable characters")
    return name
