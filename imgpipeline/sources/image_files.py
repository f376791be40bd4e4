"""Finds and reads image files: bytes, the time at which an image was taken, and why a file is not an image.

Names decide which files are images, the first bytes what another file is. Sources of the signatures: ISO/IEC 14496-12
(`ftyp`), the Matroska specification, RFC 9649 (RIFF), ISO/IEC 13818-1.

The time is `DateTimeOriginal` in the EXIF block of JPEG, PNG, WebP and TIFF files, with its fraction and UTC offset
(EXIF 2.32). `vision.header` reads the orientation.
"""

import os
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import as_utc
from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.sources.protocol import Lost, Settled
from imgpipeline.vision.header import image_format

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Files with these endings, in upper or lower case, are ingested if they are images."""
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")  # damaged EXIF has no time
HIDDEN = "hidden"
HEAD_BYTES: Final = 512
_ADDED_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "__macosx")
_VIDEO = "it is a video"
_KINDS: Final = tuple(
    (re.compile(start, re.DOTALL), what)
    for start, what in (
        (rb"\Z", "it is empty"),
        (rb".{4}ftyp(hei[cxf]|hevc|mif1|msf1|avi[fs])", "it is a HEIF or AVIF picture"),
        (rb".{4}(ftyp|moov|mdat|wide)", f"{_VIDEO} (MP4 or QuickTime)"),
        (rb"RIFF.{4}AVI ", f"{_VIDEO} (AVI)"),
        (rb"G.{187}G", f"{_VIDEO} (MPEG transport stream)"),
        (rb"\x1a\x45\xdf\xa3", f"{_VIDEO} (Matroska or WebM)"),
        (rb"FLV", f"{_VIDEO} (Flash)"),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", f"{_VIDEO} (ASF or WMV)"),
        (rb"\x00\x00\x01[\xb3\xba]", f"{_VIDEO} (MPEG)"),
        (rb"%PDF", "it is a PDF document"),
        (rb"PK\x03\x04", "it is a ZIP archive"),
        (rb"\x1f\x8b", "it is a gzip file"),
    )
)
"""How files that are not images start, the first match counts."""
_READERS = 4
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not announced."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FileToRead:
    """One file of a source."""

    path: Path
    name: str
    """Its path below the folder of the source; a hidden folder ends with `/`."""
    number: int = 0


@dataclass(frozen=True, slots=True)
class FileChoice:
    """Which files of a folder are taken, of those that are not hidden."""

    suffixes: tuple[str, ...] = ()
    """Only names with these endings, case-sensitive; empty: image endings in upper or lower case."""
    is_flat: bool = False
    """Whether folders below the folder are left out."""

    def refuses(self, name: str) -> str | None:
        """Returns why the name of a file rules it out; None if it does not."""
        if is_hidden(name):
            return HIDDEN
        taken = name.endswith(self.suffixes) if self.suffixes else name.lower().endswith(IMAGE_ENDINGS)
        return None if taken else f"not one of {', '.join(self.suffixes or IMAGE_ENDINGS)}"


ALL_IMAGES = FileChoice()


def walk_files(
    folder: Path, on_error: Callable[[OSError], None], choice: FileChoice = ALL_IMAGES
) -> Iterator[tuple[FileToRead, str | None]]:
    """Yields each file of a folder and of all folders below it once; a hidden folder is yielded as a whole.

    Links to folders are not followed.

    Args:
        on_error: Called with the error of a folder that cannot be read; may raise.

    Yields:
        The file, and why its name rules it out as an image; None if it does not.
    """
    for parent, folders, names in os.walk(folder, onerror=on_error):
        for name in filter(is_hidden, folders):
            path = Path(parent) / name
            yield FileToRead(path, f"{path_below(folder, path)}/"), HIDDEN
        folders[:] = [name for name in folders if not is_hidden(name) and not choice.is_flat]
        for name in names:
            path = Path(parent) / name
            yield FileToRead(path, path_below(folder, path)), choice.refuses(name)


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder is hidden, or is one that Windows or macOS add to folders of images."""
    return name.startswith(".") or name.lower() in _ADDED_BY_SYSTEMS


def path_below(folder: Path, file: Path) -> str:
    """Returns a file's path below the folder, or its name if the "folder" is the file itself."""
    return file.relative_to(folder).as_posix() if file != folder else file.name


def find_pictures(path: Path, choice: FileChoice = ALL_IMAGES) -> tuple[list[FileToRead], list[Skipped]]:
    """Returns the images of a folder in the order of their paths, and the other files.

    Names decide which files are images. Contents are read only until the first image is found.

    Raises:
        ConfigurationError: There is no such file or folder, it cannot be read, or it contains files but no image.
    """
    if path.is_file():
        if other := other_than_image(path):
            raise ConfigurationError(f"{path} is not an image: {other}.", next_step=_next_step(other, path))
        return [FileToRead(path, path.name, 0)], []
    pictures: list[FileToRead] = []
    skipped: list[Skipped] = []

    def refuse(error: OSError) -> None:
        raise ConfigurationError(
            f"{error.filename} cannot be read: {error.strerror}.", next_step="name a folder that this user may read"
        ) from error

    for file, refused in walk_files(path, refuse, choice):
        if refused:
            skipped.append(Skipped(file.name, refused))
        elif not file.path.is_file():
            skipped.append(Skipped(file.name, "not a file"))
        else:
            pictures.append(file)
    others = [*(file.path for file in pictures), *(path / skip.path for skip in skipped if skip.reason != HIDDEN)]
    if others and (pictures or choice == ALL_IMAGES) and all(other_than_image(file.path) for file in pictures):
        raise _no_image(path, others)
    pictures.sort(key=lambda file: file.name)
    found = [FileToRead(file.path, file.name, number) for number, file in enumerate(pictures)]
    return found, sorted(skipped, key=lambda skip: skip.path)


def _no_image(path: Path, others: list[Path]) -> ConfigurationError:
    formats = ", ".join(IMAGE_ENDINGS)
    first = min(others)
    other = other_than_image(first)
    found = f"such as {path_below(path, first)}" + (f" ({other})" if other else "")
    return ConfigurationError(
        f"{path} contains no images ({formats}), only {counted(len(others), 'other file')}, {found}.",
        next_step=_next_step(other, first) if other else "name a folder with images",
    )


def other_than_image(file: Path) -> str | None:
    """Returns what a file is, as `describe_other`; also None for a file that cannot be read."""
    try:
        with file.open("rb") as opened:
            return describe_other(opened.read(HEAD_BYTES))
    except OSError:
        return None


def describe_other(head: bytes) -> str | None:
    """Returns what a file is if it is not an image, for a person: `it is a video (AVI)`.

    Args:
        head: Its first `HEAD_BYTES` bytes, or all of it.

    Returns:
        None for an image of a known format, even if it is damaged: the pipeline records that as a dead letter.
    """
    if image_format(head) is not None:
        return None
    known = next((what for start, what in _KINDS if start.match(head)), None)
    return known or f"it starts with {head[:8].hex(' ')}, like no known image format"


def is_video(path: Path) -> bool:
    """Returns whether a file is a video."""
    return path.is_file() and (other_than_image(path) or "").startswith(_VIDEO)


def _next_step(other: str, path: Path) -> str:
    if other.startswith(_VIDEO):
        return f"`imgpipeline ingest video {path}`; or `imgpipeline demo --video {path}` to see it counted in a demo"
    if other.startswith("it is a HEIF"):
        return "convert it to JPEG or PNG and ingest that"
    return "name an image (JPEG, PNG, WebP, GIF, BMP or TIFF), or a folder with images"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file that was read."""

    file: FileToRead
    data: bytes
    modified: datetime

    @property
    def attributes(self) -> dict[str, str]:
        """The file name as an attribute of the announcement; bytes that are not UTF-8 are replaced."""
        return {"file": self.file.name.encode("utf-8", "replace").decode()}

    def own_time(self, zone: tzinfo) -> tuple[datetime, ClockSource]:
        """Returns the EXIF time, otherwise the modification time, as UTC; EXIF without an offset is in the zone."""
        taken = read_taken_time(self.data, zone)
        return (taken, ClockSource.EXIF) if taken else (self.modified, ClockSource.PRODUCER)


@dataclass(frozen=True, slots=True)
class Unusable(Skipped):
    """A file that cannot be announced as an image."""

    modified: datetime | None
    """Its modification time, UTC; None if it cannot be read."""

    def as_lost(self) -> Lost:
        """Returns the file as a failed frame, for the accounts."""
        return Lost("not_an_image", kind=Settled.FAILED, at=self.modified)


def read_images(files: Iterable[FileToRead], max_bytes: int) -> Iterator[ImageFile | Unusable]:
    """Yields the files in order; several are read ahead at the same time."""
    return map_ahead(lambda file: read_image(file, max_bytes), files, workers=_READERS, ahead=_AHEAD)


def read_image(file: FileToRead, max_bytes: int) -> ImageFile | Unusable:
    """Reads one file, unless it has more than `max_bytes`."""
    modified = None
    try:
        stat = file.path.stat()
        modified = datetime.fromtimestamp(stat.st_mtime, UTC)
        if stat.st_size > max_bytes:
            limit = f"the limit is {max_bytes} (IMGPIPELINE_MAX_IMAGE_BYTES)"
            return Unusable(file.name, f"{stat.st_size} bytes; {limit}", modified)
        data = file.path.read_bytes()
    except OSError as error:
        return Unusable(file.name, f"cannot be read: {error.strerror}", modified)
    if other := describe_other(data[:HEAD_BYTES]):
        return Unusable(file.name, f"not an image: {other}", modified)
    return ImageFile(file, data, modified)


_BLOCK: Final = re.compile(rb"(?:Exif\0\0|eXIf|EXIF.{4})(?=II\*\0|MM\0\*)", re.DOTALL)
"""The bytes before the TIFF structure: in JPEG (APP1) and some WebP files, in PNG, and in other WebP files."""
_MARKS: Final = (b"Exif\0\0", b"eXIf", b"EXIF")
"""How `_BLOCK` starts. Finding plain bytes is much faster than the pattern, and most camera frames have no EXIF."""
_EXIF_DIRECTORY: Final = 34665
_TAGS: Final = (36867, 36881, 37521)
"""`DateTimeOriginal`, `OffsetTimeOriginal` and `SubSecTimeOriginal`."""


def read_taken_time(data: bytes, zone: tzinfo = UTC) -> datetime | None:
    """Returns when a picture was taken, as aware UTC; None if its EXIF has no valid time.

    Args:
        zone: The time zone of a time without an offset (`contracts.times.as_utc`); EXIF before 2.31 has no offset.
    """
    found = _BLOCK.search(data) if any(mark in data for mark in _MARKS) else None
    block = data if data[:4] in (b"II*\0", b"MM\0*") else data[found.end() :] if found else b""
    if not block:
        return None
    from PIL.Image import Exif  # noqa: PLC0415 - slow to load, and most camera frames have no EXIF

    try:
        exif = Exif()
        exif.load(block)
        tags = exif.get_ifd(_EXIF_DIRECTORY)
        taken, offset, fraction = (str(tags.get(tag, "")).split("\0")[0].strip() for tag in _TAGS)
        has_offset = re.fullmatch(r"[+-]\d\d:\d\d", offset)
        taken_in = datetime.strptime(offset, "%z").tzinfo if has_offset else zone
        time = as_utc(datetime.strptime(taken, "%Y:%m:%d %H:%M:%S"), taken_in or UTC)  # noqa: DTZ007 - as_utc adds the zone
    except (struct.error, SyntaxError, ValueError, OverflowError):
        return None
    return time.replace(microsecond=int(fraction[:6].ljust(6, "0"))) if fraction.isdecimal() else time
