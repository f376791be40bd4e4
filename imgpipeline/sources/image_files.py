"""Reads image files: bytes, the time at which an image was taken, and why a file is not an image.

The time is `DateTimeOriginal` in the EXIF block of JPEG, PNG, WebP and TIFF files, with its fraction and UTC offset
(EXIF 2.32, tags 36867, 37521 and 36881). `vision.header` reads the orientation.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from threading import Event
from typing import Final

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.times import as_utc
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.sources.protocol import Captured, CapturedFrame, Lost, Settled
from imgpipeline.sources.walk import HEAD_BYTES, Skipped, describe_other

_READERS = 4
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class FileToRead:
    """One file of a source."""

    path: Path
    name: str
    """Its path below the folder of the source."""
    number: int
    """Its number within the source, from 0."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file that was read."""

    file: FileToRead
    data: bytes
    modified: datetime
    """Its modification time, UTC."""

    @property
    def attributes(self) -> dict[str, str]:
        """The file name as an attribute of the announcement; bytes that are not UTF-8 are replaced."""
        return {"file": self.file.name.encode("utf-8", "replace").decode()}

    def own_time(self, zone: tzinfo) -> tuple[datetime, ClockSource]:
        """Returns the EXIF time, otherwise the modification time, as UTC; EXIF without an offset is in the zone."""
        taken = read_taken_time(self.data, zone)
        return (taken, ClockSource.EXIF) if taken else (self.modified, ClockSource.PRODUCER)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A file that cannot be announced as an image."""

    skipped: Skipped
    """Which file, and why."""
    modified: datetime | None
    """Its modification time, UTC; None if it cannot be read."""

    def as_lost(self) -> Lost:
        """Returns the file as a failed frame, for the accounts."""
        return Lost("not_an_image", kind=Settled.FAILED, at=self.modified)


def read_images(files: Iterable[FileToRead], max_bytes: int) -> Iterator[ImageFile | Unusable]:
    """Yields the files in order; several are read ahead at the same time."""
    return map_ahead(lambda file: read_image(file, max_bytes), files, workers=_READERS, ahead=_AHEAD)


def capture_images(
    files: Iterable[FileToRead],
    max_bytes: int,
    stop: Event,
    skipped: list[Skipped],
    frame: Callable[[ImageFile], CapturedFrame],
) -> Iterator[Captured]:
    """Yields each image as a frame and each other file as a failed frame.

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
        file: Which file.
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


_BLOCK: Final = re.compile(rb"(?:Exif\0\0|eXIf|EXIF.{4})(?=II\*\0|MM\0\*)", re.DOTALL)
"""The bytes before the TIFF structure: in JPEG (APP1) and some WebP files, in PNG, and in other WebP files."""
_MARKS: Final = (b"Exif\0\0", b"eXIf", b"EXIF")
"""How `_BLOCK` starts. Finding plain bytes is much faster than the pattern, and most camera frames have no EXIF."""
_EXIF_DIRECTORY: Final = 34665
_TAKEN: Final = 36867
_TAKEN_OFFSET: Final = 36881
_TAKEN_SUBSECONDS: Final = 37521
_MOST_ENTRIES: Final = 1000
_LONGEST: Final = 64


def read_taken_time(data: bytes, zone: tzinfo = UTC) -> datetime | None:
    """Returns when a picture was taken, as aware UTC; None if its EXIF has no valid time.

    Args:
        data: The image file.
        zone: The time zone of a time without an offset (`contracts.times.as_utc`); EXIF before 2.31 has no offset.
    """
    found = _BLOCK.search(data) if any(mark in data for mark in _MARKS) else None
    block = data if data[:4] in (b"II*\0", b"MM\0*") else data[found.end() :] if found else b""
    try:
        return _read_block(block, zone) if block else None
    except (struct.error, ValueError, OverflowError):
        return None


def _read_block(block: bytes, zone: tzinfo) -> datetime | None:
    order = "<" if block[:2] == b"II" else ">"
    first = _read_directory(block, order, struct.unpack_from(order + "I", block, 4)[0])
    inner = first.get(_EXIF_DIRECTORY)
    if not isinstance(inner, int):
        return None
    tags = _read_directory(block, order, inner)
    taken, offset, fraction = (str(tags.get(tag, "")) for tag in (_TAKEN, _TAKEN_OFFSET, _TAKEN_SUBSECONDS))
    has_offset = re.fullmatch(r"[+-]\d\d:\d\d", offset)
    taken_in = datetime.strptime(offset, "%z").tzinfo if has_offset else zone
    time = as_utc(datetime.strptime(taken, "%Y:%m:%d %H:%M:%S"), taken_in or UTC)  # noqa: DTZ007 - as_utc adds the zone
    return time.replace(microsecond=int(fraction[:6].ljust(6, "0"))) if fraction.isdecimal() else time


def _read_directory(block: bytes, order: str, start: int) -> dict[int, int | str]:
    """Returns those tags of a directory that this module needs."""
    (count,) = struct.unpack_from(order + "H", block, start)
    tags: dict[int, int | str] = {}
    for index in range(min(count, _MOST_ENTRIES)):
        at = start + 2 + 12 * index
        tag, kind, size, value = struct.unpack_from(order + "HHII", block, at)
        if kind == 4 and tag == _EXIF_DIRECTORY:
            tags[tag] = value
        elif kind == 2 and tag in (_TAKEN, _TAKEN_OFFSET, _TAKEN_SUBSECONDS):
            begin = at + 8 if size <= 4 else value
            text = block[begin : begin + min(size, _LONGEST)]
            if len(text) == min(size, _LONGEST):  # half a time would be another time
                tags[tag] = text.split(b"\0")[0].decode("ascii", "replace").strip()
    return tags
