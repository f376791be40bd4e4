"""Finds the images of a folder by file name, and identifies a file by its first bytes.

Sources of the signatures: ISO/IEC 14496-12 (`ftyp`), the Matroska specification, RFC 9649 (RIFF), ISO/IEC 13818-1.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.header import image_format

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Files with these endings, in upper or lower case, are ingested if they are images."""
HIDDEN = "hidden"
"""Why a hidden file or folder was skipped."""
HEAD_BYTES: Final = 512
"""How many bytes from the start of a file `describe_other` needs."""
_ADDED_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "__macosx")
_TS_PACKET_BYTES: Final = 188
"""Packet size of an MPEG transport stream; each packet starts with a `G`."""
_HEIF_BRANDS: Final = (b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_STARTS: Final = (
    (b"\x1a\x45\xdf\xa3", "it is a video (Matroska or WebM)"),
    (b"FLV", "it is a video (Flash)"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "it is a video (ASF or WMV)"),
    (b"\x00\x00\x01\xba", "it is a video (MPEG)"),
    (b"\x00\x00\x01\xb3", "it is a video (MPEG)"),
    (b"%PDF", "it is a PDF document"),
    (b"PK\x03\x04", "it is a ZIP archive"),
    (b"\x1f\x8b", "it is a gzip file"),
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not announced."""

    path: str
    """Path below the folder."""
    reason: str
    """Why, for a person."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file below a folder, or a hidden folder."""

    path: Path
    name: str
    """Its path below the folder; a hidden folder ends with `/`."""
    refused: str | None
    """Why its name rules it out as an image; None if it does not."""


def walk_files(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[FoundFile]:
    """Yields each file of a folder and of all folders below it once; a hidden folder is yielded as a whole.

    Links to folders are not followed.

    Args:
        folder: Where to start.
        on_error: Called with the error of a folder that cannot be read; may raise.
    """
    for parent, folders, names in os.walk(folder, onerror=on_error):
        for name in filter(is_hidden, folders):
            path = Path(parent) / name
            yield FoundFile(path, f"{path_below(folder, path)}/", HIDDEN)
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in names:
            path = Path(parent) / name
            yield FoundFile(path, path_below(folder, path), refused_by_name(name))


def refused_by_name(name: str) -> str | None:
    """Returns why the name of a file rules it out as an image; None if it does not."""
    if is_hidden(name):
        return HIDDEN
    return None if name.lower().endswith(IMAGE_ENDINGS) else f"not one of {', '.join(IMAGE_ENDINGS)}"


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder is hidden, or is one that Windows or macOS add to folders of images."""
    return name.startswith(".") or name.lower() in _ADDED_BY_SYSTEMS


def path_below(folder: Path, file: Path) -> str:
    """Returns a file's path below the folder, or its name if the "folder" is the file itself."""
    return file.relative_to(folder).as_posix() if file != folder else file.name


def find_pictures(path: Path) -> tuple[list[Path], list[Skipped]]:
    """Returns the images of a folder in the order of their paths, and the other files.

    Names decide which files are images. Contents are read only until the first image is found.

    Raises:
        ConfigurationError: There is no such file or folder, it cannot be read, or it contains files but no image.
    """
    if path.is_file():
        if other := other_than_image(path):
            raise ConfigurationError(f"{path} is not an image: {other.what}.", next_step=other.next_step)
        return [path], []
    pictures: list[FoundFile] = []
    skipped: list[Skipped] = []

    def refuse(error: OSError) -> None:
        raise ConfigurationError(
            f"{error.filename} cannot be read: {error.strerror}.", next_step="name a folder that this user may read"
        ) from error

    for file in walk_files(path, refuse):
        if file.refused:
            skipped.append(Skipped(file.name, file.refused))
        elif not file.path.is_file():
            skipped.append(Skipped(file.name, "not a file"))
        else:
            pictures.append(file)
    others = [*(file.path for file in pictures), *(path / skip.path for skip in skipped if skip.reason != HIDDEN)]
    if others and all(other_than_image(file.path) for file in pictures):
        raise _no_image(path, others)
    pictures.sort(key=lambda file: file.name)
    return [file.path for file in pictures], sorted(skipped, key=lambda skip: skip.path)


def _no_image(path: Path, others: list[Path]) -> ConfigurationError:
    formats = ", ".join(IMAGE_ENDINGS)
    first = min(others)
    other = other_than_image(first)
    found = f"such as {path_below(path, first)}" + (f" ({other.what})" if other else "")
    return ConfigurationError(
        f"{path} contains no images ({formats}), only {counted(len(others), 'other file')}, {found}.",
        next_step=other.next_step if other else "name a folder with images",
    )


@dataclass(frozen=True, slots=True)
class OtherFile:
    """A file that is not an image of a known format."""

    what: str
    """For a person, such as `it is a video (MP4 or QuickTime)`."""
    next_step: str
    """What the user can do with it."""

    @property
    def is_video(self) -> bool:
        """Whether it is a video."""
        return self.what.startswith("it is a video")


def other_than_image(file: Path) -> OtherFile | None:
    """Returns what a file is; None for an image, and for a file that cannot be read."""
    try:
        with file.open("rb") as opened:
            return describe_other(opened.read(HEAD_BYTES), file)
    except OSError:
        return None


def describe_other(head: bytes, path: Path) -> OtherFile | None:
    """Returns what a file is if it is not an image.

    Args:
        head: Its first `HEAD_BYTES` bytes, or all of it.
        path: Its path, for the next step only.

    Returns:
        None for an image of a known format, even if it is damaged: the pipeline records that as a dead letter.
    """
    if image_format(head) is not None:
        return None
    what = _kind_of(head)
    other = OtherFile(what, "name an image (JPEG, PNG, WebP, GIF, BMP or TIFF), or a folder with images")
    if other.is_video:
        step = f"`imgpipeline ingest video {path}`; or `imgpipeline demo --video {path}` to see it counted in a demo"
        return OtherFile(what, step)
    if what.startswith("it is a HEIF"):
        return OtherFile(what, "convert it to JPEG or PNG and ingest that")
    return other


def _kind_of(head: bytes) -> str:
    if not head:
        return "it is empty"
    if head[4:8] == b"ftyp":
        return "it is a HEIF or AVIF picture" if head[8:12] in _HEIF_BRANDS else "it is a video (MP4 or QuickTime)"
    if head[4:8] in (b"moov", b"mdat", b"wide"):
        return "it is a video (MP4 or QuickTime)"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "it is a video (AVI)"
    if head[:1] == b"G" and head[_TS_PACKET_BYTES : _TS_PACKET_BYTES + 1] == b"G":
        return "it is a video (MPEG transport stream)"
    known = next((what for start, what in _STARTS if head.startswith(start)), None)
    return known or f"it starts with {head[:8].hex(' ')}, like no known image format"
