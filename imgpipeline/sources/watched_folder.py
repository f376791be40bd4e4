"""A watched folder as a source: each image that appears in it is announced once, as soon as it is completely written.

A periodic scan finds the images; file system events only start it earlier. A small state file remembers handled files,
so neither a restart nor a network mount that comes and goes announces an image again.
"""

import itertools
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from threading import Event, Lock
from time import monotonic

from watchfiles import watch

from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.settings import Settings
from imgpipeline.sources.image_files import (
    ALL_IMAGES,
    HIDDEN,
    IMAGE_ENDINGS,
    FileChoice,
    FileToRead,
    ImageFile,
    Unusable,
    is_hidden,
    read_images,
    walk_files,
)
from imgpipeline.sources.protocol import Captured, CapturedFrame, Settled, SourceKind, StatusChange, checked_source

LOG = logging.getLogger(__name__)
_IN_KAFKA = (Settled.ANNOUNCED, Settled.GATED)
"""A frame is left out only if its image was stored, and so announced, before."""
DONE = ".ingested"
"""Default folder for announced files, below the watched one; hidden, so that it is not scanned."""
_EMPTY_S = 60.0
"""An empty file older than this is reported; before, its content may follow."""
_MOVED_AFTER_NS = 1_000_000_000
"""A file whose inode changed this long after its content was moved in, or copied with its time."""

_TABLES = """
CREATE TABLE IF NOT EXISTS settled (
    name BLOB PRIMARY KEY, size INTEGER NOT NULL, modified_ns INTEGER NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS root (only INTEGER PRIMARY KEY CHECK (only = 1), is_mounted INTEGER NOT NULL);
"""


class AwayError(Exception):
    """The folder, or its mount, is missing or cannot be read."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file."""

    size_bytes: int
    modified_ns: int
    """Its modification time, Unix nanoseconds."""


def default_state_file(settings: Settings, place: str, source: str) -> Path:
    """Returns `${XDG_STATE_HOME:-~/.local/state}/imgpipeline/watch/….sqlite` for a place, source, store and topic."""
    base = os.environ.get("XDG_STATE_HOME")
    home = Path(base) if base else Path.home() / ".local" / "state"
    parts = (place, source, settings.store_url, settings.kafka_topic)
    digest = sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return home / "imgpipeline" / "watch" / f"{digest}.sqlite"


class WatchState:
    """The handled files of one folder, each announced or refused, in a small SQLite file; thread-safe."""

    def __init__(self, file: Path) -> None:
        """Opens the file, or creates it.

        Raises:
            ConfigurationError: The file cannot be written, or is not a SQLite file.
        """
        self._lock = Lock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")  # a power cut only makes it announce some again
            self._database.executescript(_TABLES)
            rows = self._database.execute("SELECT name, size, modified_ns, sha256 FROM settled").fetchall()
            root = self._database.execute("SELECT is_mounted FROM root").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"{file} cannot be used: {error}.", next_step="make its folder writable, or name another with --state"
            ) from error
        self._settled = {os.fsdecode(name): (Version(size, modified), digest) for name, size, modified, digest in rows}
        self.is_mounted: bool | None = bool(root[0]) if root else None
        """Whether the folder was the root of a mount when it was last seen; None if it was never seen."""

    def __len__(self) -> int:
        return len(self._settled)

    def find(self, name: str) -> tuple[Version | None, str]:
        """Returns the version of a file that was handled (None: none was), and its SHA-256 if it was announced."""
        with self._lock:
            return self._settled.get(name, (None, ""))

    def settle(self, name: str, version: Version, digest: str) -> None:
        """Stores that a version of a file was handled; `digest` is empty if it was not announced."""
        row = (os.fsencode(name), version.size_bytes, version.modified_ns, digest)
        with self._lock:
            self._settled[name] = (version, digest)
            self._database.execute("INSERT OR REPLACE INTO settled VALUES (?, ?, ?, ?)", row)

    def forget(self, name: str) -> None:
        """Removes a file that was moved or deleted, so that another file of its name is new."""
        with self._lock:
            self._settled.pop(name, None)
            self._database.execute("DELETE FROM settled WHERE name = ?", (os.fsencode(name),))

    def note_root(self, *, is_mounted: bool) -> None:
        """Stores whether the folder is the root of a mount."""
        if is_mounted != self.is_mounted:
            with self._lock:
                self.is_mounted = is_mounted
                self._database.execute("INSERT OR REPLACE INTO root VALUES (1, ?)", (is_mounted,))


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image file in a folder."""

    path: Path
    name: str
    """Its path below the folder."""
    version: Version
    was_moved_in: bool
    """Whether it was moved in, or copied with its time, and so was complete when it appeared."""


@dataclass(frozen=True, slots=True)
class Root:
    """What identifies a folder."""

    device: int
    inode: int
    is_mounted: bool
    """Whether it is the root of a mount, so that its parent is on another device."""


def identify(folder: Path) -> Root:
    """Returns what identifies a folder.

    Raises:
        AwayError: It is missing or cannot be read.
    """
    try:
        stat, parent = folder.stat(), (folder.resolve() / os.pardir).stat()
    except OSError as error:
        raise AwayError(f"{folder} cannot be read: {error.strerror}") from error
    if not folder.is_dir():
        raise AwayError(f"{folder} is no longer a folder")
    return Root(stat.st_dev, stat.st_ino, stat.st_dev != parent.st_dev)


def list_images(folder: Path, choice: FileChoice = ALL_IMAGES) -> tuple[list[ListedImage], dict[str, str]]:
    """Returns the image files of a folder and of all folders below it by path, and why others (not hidden) are ignored.

    Raises:
        AwayError: The folder, or one below it, cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise AwayError(f"{error.filename} cannot be read: {error.strerror}") from error

    found: list[ListedImage] = []
    ignored: dict[str, str] = {}
    for file, refused in walk_files(folder, refuse, choice):
        if refused:
            ignored |= {file.name: refused} if refused != HIDDEN else {}
            continue
        try:
            stat = file.path.stat()
        except FileNotFoundError:
            continue  # moved away while the folder was read, or a link to nothing
        except OSError as error:
            raise AwayError(f"{file.path} cannot be read: {error.strerror}") from error
        if not stat.st_size and datetime.now(UTC).timestamp() - stat.st_mtime > _EMPTY_S:
            ignored[file.name] = "it is empty"
        # A write sets both times; a move, or a copy that keeps the time, only the later one.
        was_moved = stat.st_ctime_ns - stat.st_mtime_ns > _MOVED_AFTER_NS
        found.append(ListedImage(file.path, file.name, Version(stat.st_size, stat.st_mtime_ns), was_moved))
    return sorted(found, key=lambda file: file.name), ignored


class UnchangedFiles:
    """Finds the files that are completely written: unchanged for a while, or moved in."""

    def __init__(self, unchanged_s: float) -> None:
        """Takes how long a file has to stay unchanged."""
        self._unchanged_s = unchanged_s
        self._seen: dict[str, tuple[Version, float]] = {}

    def complete(self, files: list[ListedImage]) -> list[ListedImage]:
        """Returns the files of a scan that are completely written; an empty file never counts as complete."""
        now, before, self._seen = monotonic(), self._seen, {}
        complete: list[ListedImage] = []
        for file in files:
            version, since = before.get(file.name, (None, now))
            since = since if version == file.version else now
            self._seen[file.name] = (file.version, since)
            is_unchanged = version == file.version and now - since >= self._unchanged_s
            if file.version.size_bytes and (is_unchanged or file.was_moved_in):
                complete.append(file)
        return complete


class After(StrEnum):
    """What to do with a file once its frame is announced."""

    KEEP = "keep"
    MOVE = "move"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How a folder is watched."""

    after: After = After.KEEP
    move_to: Path | None = None
    """Where files are moved to; None: `.ingested` in the folder."""
    rescan_s: float = 2.0
    """Seconds between two scans, and how long a file must stay unchanged."""
    state_file: Path | None = None
    choice: FileChoice = ALL_IMAGES


class WatchedFolder:
    """The images that appear in a folder. The source ends only when it is stopped."""

    kind = SourceKind.FINITE

    def __init__(self, settings: Settings, path: Path, name: str, options: WatchOptions = WatchOptions()) -> None:
        """Opens the state of the folder.

        Args:
            settings: Limit of the image size, time zone of EXIF times; store and topic identify the state file.

        Raises:
            ConfigurationError: The folder does not exist and was never seen, or its state file cannot be used.
            UsageError: The name of the source is not valid, or the scan would find moved files again.
        """
        self.name = checked_source(name)
        self.skipped: dict[str, str] = {}
        self.ignored: dict[str, str] = {}
        self._logged: set[str] = set()
        self._settings = settings
        self._folder = path
        self._options = options
        self._done = options.move_to or path / DONE
        below = self._done.resolve().parts[len(path.resolve().parts) :]
        if self._done.resolve().is_relative_to(path.resolve()) and not any(is_hidden(part) for part in below):
            raise UsageError(
                f"Files moved to {self._done} would be found again.", next_step="name a folder outside, or a hidden one"
            )
        self._state = WatchState(options.state_file or default_state_file(settings, str(path.resolve()), name))
        if not path.is_dir() and self._state.is_mounted is None:
            raise ConfigurationError(f"There is no folder {path}.", next_step="name a folder with images")
        self._root: Root | None = None
        self._away: str | None = None
        self._unchanged = UnchangedFiles(0.9 * options.rescan_s)
        self._changes: Iterator[object] | None = None
        self._in_flight: set[str] = set()
        self._lock = Lock()

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields each new or changed image, and reports when the folder disappears and comes back."""
        while not stop.is_set():
            try:
                files = self._scan()
            except AwayError as error:
                if self._away is None:
                    self._away = str(error)
                    yield StatusChange(online=False, reason=self._away, at=datetime.now(UTC))
            else:
                if self._away is not None:
                    self._away = None
                    yield StatusChange(online=True, reason=f"{self._folder} is back", at=datetime.now(UTC))
                yield from self._read(files, stop)
            self._wait(stop)

    def _scan(self) -> list[ListedImage]:
        """Returns the complete files that are not handled yet.

        Raises:
            AwayError: The folder is missing, or another folder has taken its place.
        """
        root = identify(self._folder)
        if self._state.is_mounted and not root.is_mounted:
            raise AwayError(f"the mount of {self._folder} is gone")
        found, ignored = list_images(self._folder, self._options.choice)
        if not found and len(self._state) and self._root is not None and root != self._root:
            raise AwayError(f"{self._folder} is another folder now, and empty")
        self._root = root
        self._state.note_root(is_mounted=root.is_mounted)
        self._note_ignored(ignored)
        complete = self._unchanged.complete(found)
        with self._lock:
            idle = [file for file in complete if file.name not in self._in_flight]
        for file in idle:
            version, digest = self._state.find(file.name)
            if version == file.version and digest:  # announced before a crash
                self._put_away(file)
        return [file for file in idle if self._state.find(file.name)[0] != file.version]

    def _note_ignored(self, ignored: dict[str, str]) -> None:
        """Logs each empty file, and the first other file with each ending: some folders have one beside each image."""
        for name, reason in ignored.items():
            if (kind := name if name.lower().endswith(IMAGE_ENDINGS) else Path(name).suffix) not in self._logged:
                self._logged.add(kind)
                LOG.warning("%s is ignored: %s", name, reason)
        self.ignored = ignored

    def _read(self, files: list[ListedImage], stop: Event) -> Iterator[Captured]:
        listed = {file.name: file for file in files}
        to_read = (FileToRead(file.path, file.name) for file in files)
        for read in read_images(to_read, self._settings.max_image_bytes):
            if stop.is_set():
                return
            if isinstance(read, ImageFile):
                yield from self._frame(read, listed[read.file.name])
            elif read.reason.startswith("cannot be read"):
                LOG.info("%s: %s", read.path, read.reason)  # tried again by the next scan
            else:
                yield from self._refuse(read, listed[read.path])

    def _refuse(self, read: Unusable, listed: ListedImage) -> Iterator[Captured]:
        self.skipped[read.path] = read.reason
        LOG.warning("%s is not announced: %s", read.path, read.reason)
        self._state.settle(listed.name, listed.version, "")
        yield read.as_lost()

    def _frame(self, image: ImageFile, listed: ListedImage) -> Iterator[Captured]:
        digest = sha256(image.data).hexdigest()
        if len(image.data) != listed.version.size_bytes:
            return  # it grew while it was read, so the next scan finds another version
        if self._state.find(listed.name)[1] == digest:
            self._state.settle(listed.name, listed.version, digest)
            return
        time, clock = image.own_time(find_timezone(self._settings.timezone))
        with self._lock:
            self._in_flight.add(listed.name)
        yield CapturedFrame(
            time,
            clock,
            data=image.data,
            name=listed.name,
            attributes=image.attributes,
            settle=lambda how: self._settled(listed, digest, how),
        )

    def _settled(self, listed: ListedImage, digest: str, how: Settled) -> None:
        """Records an announced or failed frame; the next scan announces a dropped one again."""
        if how is not Settled.DROPPED:
            self._state.settle(listed.name, listed.version, digest if how in _IN_KAFKA else "")
        if how in _IN_KAFKA:
            self._put_away(listed)
        with self._lock:
            self._in_flight.discard(listed.name)

    def _put_away(self, listed: ListedImage) -> None:
        """Moves or deletes a file whose frame is announced; the next scan retries what fails."""
        if self._options.after is After.KEEP:
            return
        try:
            self._remove(listed)
        except OSError as error:
            LOG.warning("%s cannot be moved or deleted: %s", listed.path, error)

    def _remove(self, listed: ListedImage) -> None:
        stat = listed.path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (listed.version.size_bytes, listed.version.modified_ns):
            return  # overwritten since it was read, so the next scan announces the new version
        if self._options.after is After.DELETE:
            listed.path.unlink()
        else:
            target = _free_name(self._done / listed.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(listed.path, target)
        self._state.forget(listed.name)

    def _wait(self, stop: Event) -> None:
        """Waits until the next scan, or until something happens in the folder."""
        if self._away is not None:
            self._changes = None
        else:
            try:
                self._changes = self._changes or self._watch(stop)
                if next(self._changes, None) is not None:
                    return
            except (OSError, RuntimeError) as error:
                LOG.info("no file events of %s: %s", self._folder, error)
            self._changes = None
        stop.wait(self._options.rescan_s)

    def _watch(self, stop: Event) -> Iterator[object]:
        timeout_ms = round(1000 * self._options.rescan_s)
        return watch(self._folder, stop_event=stop, rust_timeout=timeout_ms, yield_on_timeout=True, debounce=200)


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.stem} ({number}){path.suffix}") for number in itertools.count(2))
    return path if not os.path.lexists(path) else next(name for name in names if not os.path.lexists(name))
