"""Temporary folders for a build or query, removed with their process.

A process holds a lock on its folder. The system releases the lock however the process ends, so the next process can
remove folders that were left behind, and never one that is in use.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Makes a folder, and removes it at the end.

    Folders of the same parent and prefix that no process holds any more are removed first.

    Args:
        parent: Where to make it; must be there.
        prefix: How its name begins.

    Yields:
        An empty folder.

    Raises:
        OSError: The local disk cannot be used.
    """
    _sweep(parent, prefix)
    folder, lock = _locked_folder(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.is_dir():
                return folder, lock
            os.close(lock)  # another process swept it away before it was locked


def _sweep(parent: Path, prefix: str) -> None:
    """Removes the folders of processes that ended without doing so, recognised by their free lock.

    Links are not followed: the parent may be a folder that others write to.
    """
    names = [entry.path for entry in os.scandir(parent) if entry.name.startswith(prefix)]
    for name in names:
        with contextlib.suppress(OSError):
            lock = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(name, ignore_errors=True)
            finally:
                os.close(lock)
