"""Remembers the handled files of a watched folder in a small SQLite file, so a restart announces nothing again."""

import os
import sqlite3
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings

_TABLES = """
CREATE TABLE IF NOT EXISTS settled (
    name BLOB PRIMARY KEY, size INTEGER NOT NULL, modified_ns INTEGER NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS root (only INTEGER PRIMARY KEY CHECK (only = 1), is_mounted INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file."""

    size_bytes: int
    modified_ns: int
    """Its modification time, Unix nanoseconds."""


def default_state_file(settings: Settings, folder: Path, source: str) -> Path:
    """Returns `${XDG_STATE_HOME:-~/.local/state}/imgpipeline/watch/….sqlite` for a folder, source, store and topic."""
    base = os.environ.get("XDG_STATE_HOME")
    home = Path(base) if base else Path.home() / ".local" / "state"
    parts = (str(folder.resolve()), source, settings.store_url, settings.kafka_topic)
    digest = sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return home / "imgpipeline" / "watch" / f"{digest}.sqlite"


class WatchState:
    """The handled files of one folder, each announced or refused; thread-safe."""

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

    def has(self, name: str, version: Version) -> bool:
        """Returns whether this version of a file was announced or refused."""
        with self._lock:
            found = self._settled.get(name)
            return found is not None and found[0] == version

    def was_announced(self, name: str, version: Version) -> bool:
        """Returns whether this version of a file was announced."""
        with self._lock:
            found = self._settled.get(name)
            return found is not None and found[0] == version and bool(found[1])

    def has_content(self, name: str, digest: str) -> bool:
        """Returns whether a file was announced with this content, with any modification time."""
        with self._lock:
            found = self._settled.get(name)
            return found is not None and found[1] == digest

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

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()
