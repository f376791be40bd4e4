"""The local cache of day tables below `~/.cache/imgpipeline/lake`, and the folder of one query session.

A cached file is complete or absent, and its name identifies one version of one object (store, key, e-tag). A session
has its own links to the files that it started with, so trimming the cache does not affect it. The next session removes
the folders of killed ones. The cache may be deleted at any time.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from imgpipeline.lake.storage.engine import disk_errors, scratch_folder
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

MOST_BYTES = 4 * 2**30
"""The cache is trimmed to this size, least recently used files first."""
MOST_FILES = 4000
"""The cache is trimmed to this many files: listing more would take longer than fetching them again."""


def default_cache_dir() -> Path:
    """Returns `${XDG_CACHE_HOME:-~/.cache}/imgpipeline/lake`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "imgpipeline" / "lake"


def trim_folder(folder: Path, most_bytes: int, most_files: int) -> None:
    """Removes the least recently used files of a folder until it is within its limits."""
    found: list[tuple[float, int, str]] = []
    with os.scandir(folder) as entries:  # a Path for each entry takes longer
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat()
                found.append((status.st_mtime, status.st_size, entry.name))
    excess, surplus = sum(size for _, size, _ in found) - most_bytes, len(found) - most_files
    for _, size, name in sorted(found):
        if excess <= 0 and surplus <= 0:
            return
        (folder / name).unlink(missing_ok=True)
        excess, surplus = excess - size, surplus - 1


class LakeCache:
    """Cached objects of one store.

    Guarantees:
        Safe to use from several threads and processes. A linked file is the object that the store had in that version.
    """

    def __init__(self, store: ObjectStore, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        """Opens the cache; nothing is fetched yet.

        Args:
            folder: The cache's folder; created if it is missing.
            most_bytes: Size to which `trim` reduces the cache.
        """
        self._store = store
        self.folder = folder
        self._folder = folder / "objects"
        self._most_bytes = most_bytes
        self._has_grown = False
        with disk_errors(folder):
            self._folder.mkdir(parents=True, exist_ok=True)

    def link(self, key: str, e_tag: str, target: Path) -> str | None:
        """Links an object to a path, from the cache or from the store.

        Args:
            e_tag: The listed version; if the object was replaced since, the newer version is linked.
            target: The path; its folder is created.

        Returns:
            The linked version; None if the object is gone.

        Raises:
            PermanentError: The local disk cannot be used.
        """
        with disk_errors(self._folder):
            target.parent.mkdir(parents=True, exist_ok=True)
            if self._link_cached(self._path(key, e_tag), target):
                return e_tag
            handle, name = tempfile.mkstemp(dir=self._folder, prefix="fetching-")
            os.close(handle)
            path = Path(name)
            try:
                found = fetch_table(self._store, key, path)
            except ObjectMissingError:
                path.unlink()
                return None
            except BaseException:
                path.unlink()
                raise
            if not self._link_cached(path, target):
                shutil.copyfile(path, target)
            path.replace(self._path(key, found))
            self._has_grown = True
            return found

    def trim(self) -> None:
        """Removes the least recently used files until the cache is within its limits, if anything was fetched."""
        if self._has_grown:
            trim_folder(self._folder, self._most_bytes, MOST_FILES)

    def _path(self, key: str, e_tag: str) -> Path:
        name = sha256(f"{self._store.url}\n{key}\n{e_tag}".encode()).hexdigest()[:40]
        return self._folder / f"{name}.parquet"

    def _link_cached(self, path: Path, target: Path) -> bool:
        """Links a file, or copies it if the disk does not support links; False if there is no such file."""
        try:
            os.utime(path)
            try:
                target.hardlink_to(path)
            except FileNotFoundError:
                raise
            except OSError:
                shutil.copyfile(path, target)
        except FileNotFoundError:
            return False
        return True


@contextlib.contextmanager
def open_cache(store: ObjectStore, cache_dir: Path | None = None) -> Iterator[tuple[Path, LakeCache]]:
    """Opens the cache of a store, and an empty folder on the same disk, for links to the cached files.

    Args:
        cache_dir: The cache's folder; default: `default_cache_dir`.

    Yields:
        The folder, which is removed at the end, and the cache.

    Raises:
        PermanentError: The local disk cannot be used.
    """
    cache_dir = cache_dir or default_cache_dir()
    with contextlib.ExitStack() as stack:
        with disk_errors(cache_dir):
            sessions = cache_dir / "sessions"
            sessions.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(scratch_folder(sessions, ""))
        # The versions of a store in memory mean nothing to the next process.
        yield folder, LakeCache(store, cache_dir if store.url != "memory://" else folder / "cache")
