"""Scans a watched folder: whether it is there, and which of its images are completely written."""

import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from imgpipeline.sources.walk import IMAGE_ENDINGS, is_hidden, path_below
from imgpipeline.sources.watch_state import Version

_MOVED_AFTER_NS = 1_000_000_000
"""A file whose inode changed this long after its content was moved, or copied with its time."""


class AwayError(Exception):
    """The folder is not there: it is gone, unreadable, or its mount is."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One image file in a folder."""

    path: Path
    """Where it lies."""
    name: str
    """Its path below the folder."""
    version: Version
    """Its size and modification time."""
    was_moved_in: bool
    """Whether it was moved, or copied with its time, and so was complete when it appeared."""


@dataclass(frozen=True, slots=True)
class Root:
    """What identifies a folder."""

    device: int
    """The device of its file system."""
    inode: int
    """Its number on that device."""
    is_mounted: bool
    """Whether it is the root of a mount: its parent is on another device."""


def identify(folder: Path) -> Root:
    """Returns what identifies a folder.

    Raises:
        AwayError: It is not there.
    """
    try:
        stat, parent = folder.stat(), (folder.resolve() / os.pardir).stat()
    except OSError as error:
        raise AwayError(f"{folder} cannot be read: {error.strerror}") from error
    if not folder.is_dir():
        raise AwayError(f"{folder} is no longer a folder")
    return Root(stat.st_dev, stat.st_ino, stat.st_dev != parent.st_dev)


def list_images(folder: Path) -> list[Listed]:
    """Returns the image files of a folder and of all folders below it, in the order of their paths; hidden ones never.

    Raises:
        AwayError: The folder, or one below it, cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise AwayError(f"{error.filename} cannot be read: {error.strerror}") from error

    found: list[Listed] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in names:
            path = Path(parent) / name
            if is_hidden(name) or path.suffix.lower() not in IMAGE_ENDINGS:
                continue
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue  # moved away while the folder was read, or a link to nothing
            except OSError as error:
                raise AwayError(f"{path} cannot be read: {error.strerror}") from error
            # A write sets both times; a move, or a copy that keeps the time, only the later one.
            was_moved = stat.st_ctime_ns - stat.st_mtime_ns > _MOVED_AFTER_NS
            version = Version(stat.st_size, stat.st_mtime_ns)
            found.append(Listed(path, path_below(folder, path), version, was_moved))
    return sorted(found, key=lambda file: file.name)


class UnchangedFiles:
    """Finds files that are completely written: unchanged for a while, or moved in."""

    def __init__(self, unchanged_s: float) -> None:
        """Takes how long a file has to stay unchanged."""
        self._unchanged_s = unchanged_s
        self._seen: dict[str, tuple[Version, float]] = {}

    def complete(self, files: list[Listed]) -> list[Listed]:
        """Returns the files of a scan that are completely written; an empty file never is."""
        now, before, self._seen = monotonic(), self._seen, {}
        complete: list[Listed] = []
        for file in files:
            version, since = before.get(file.name, (None, now))
            since = since if version == file.version else now
            self._seen[file.name] = (file.version, since)
            is_unchanged = version == file.version and now - since >= self._unchanged_s
            if file.version.size_bytes and (is_unchanged or file.was_moved_in):
                complete.append(file)
        return complete
