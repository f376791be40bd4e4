"""What a job reads: a file, a folder, a glob, or a prefix of an S3 bucket, as an ordered list of files.

Owns finding the files and opening them. It promises what Hadoop's input paths promise, and an order beside:

* Files are taken in the byte order of their names: below the named folder or prefix, whole paths for a glob.
* A folder is read with all folders below it. Files and folders whose names begin with `_` or `.` are left out, as
  Hadoop leaves them out (`_SUCCESS`, `.part-00000.crc`), unless they are named themselves.
* What does not exist, and a glob that matches nothing, is an error; an empty folder is empty input.
* `.gz`, `.bz2` and `.zst` are decompressed; a byte order mark at a file's beginning is left out.

What is in a file belongs to the jobs.
"""

import bz2
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import glob, has_magic
from pathlib import Path
from typing import cast

import zstandard

from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore import ObjectInfo, ObjectStore
from imgpipeline.objectstore.ahead import map_ahead
from imgpipeline.objectstore.client import open_bucket
from imgpipeline.objectstore.pieces import PIECE_BYTES, ObjectStream
from imgpipeline.settings import Settings

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_COMPRESSED = (".gz", ".bz2", ".zst")
_READERS = 16
_AHEAD = 32
_UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError)


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read."""

    name: str
    """What to call it in messages: its path, or its URL."""
    size_bytes: int
    """Its size as it is stored."""
    path: Path | None
    """Where it lies on this machine; None: in a bucket."""
    open_raw: Callable[[], io.BufferedReader]
    """Opens its bytes as they are stored; an object that is not large is read as a whole by then."""

    @property
    def compressed(self) -> bool:
        """Whether its name says so."""
        return self.name.endswith(_COMPRESSED)


def find_inputs(location: str, settings: Settings) -> list[InputFile]:
    """Lists what a job reads, in its order.

    Args:
        location: A file, a folder, a glob (`*`, `?`, `[…]`, `**`), or `s3://bucket/prefix` (or `s3a://`), also with a
            glob.
        settings: Name the S3 server and its credentials.

    Returns:
        The files; none for an empty folder.

    Raises:
        ConfigurationError: There is no such file, folder, prefix or bucket, or a folder may not be read.
        TransientError: The store does not answer.
    """
    location = as_s3_url(location)
    if location.startswith("s3://"):
        return _find_objects(location, settings)
    path = Path(location)
    if path.exists():
        return [_local(file) for file in (_files_below(path) if path.is_dir() else [path])]
    found = glob(location, recursive=True, include_hidden=True) if has_magic(location) else []  # noqa: PTH207 - takes `**` and whole paths
    if not found:
        raise _missing(location)
    files = {file for match in map(Path, found) for file in (_files_below(match) if match.is_dir() else [match])}
    hidden = _hidden_beside(location)
    return [_local(file) for file in sorted(files, key=os.fsencode) if not hidden(str(file))]


def _is_hidden(name: str) -> bool:
    return name.startswith(("_", "."))


def _hidden_beside(pattern: str) -> Callable[[str], bool]:
    """Returns whether a path found by a glob is hidden: a part of it is, and no part of the glob names such ones."""
    own = len(_fixed_part(pattern))
    named = [part for part in pattern.split("/") if _is_hidden(part)]
    return lambda path: any(
        _is_hidden(part) and not any(fnmatchcase(part, name) for name in named) for part in path[own:].split("/")
    )


def _fixed_part(pattern: str) -> str:
    """Returns the folders of a glob above its first wildcard."""
    return re.split(r"[*?[]", pattern)[0].rpartition("/")[0] if has_magic(pattern) else pattern


def _missing(location: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is nothing to read at {location}.", next_step="name a file, a folder, a glob or s3://bucket/prefix"
    )


def _files_below(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise ConfigurationError(
            f"{error.filename} cannot be read: {error.strerror}.", next_step="name a folder that this user may read"
        ) from error

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        files.extend(Path(parent, name) for name in names if not _is_hidden(name))
    return sorted((file for file in files if file.is_file()), key=lambda file: os.fsencode(file.relative_to(folder)))


def _local(path: Path) -> InputFile:
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}.", next_step="mend or remove that link, or leave it out"
        ) from None
    return InputFile(str(path), size_bytes, path, lambda: path.open("rb"))


def _find_objects(location: str, settings: Settings) -> list[InputFile]:
    bucket, _, pattern = location.removeprefix("s3://").partition("/")
    if not bucket:
        raise _missing(location)
    store = open_bucket(settings, bucket)
    fixed = _fixed_part(pattern).strip("/")
    named = store.head(fixed) if fixed == pattern and fixed else None
    if named is not None:
        return [_object(store, named)]
    expression, hidden = _compile(pattern.rstrip("/")), _hidden_beside(pattern)
    objects = [
        info
        for info in sorted(store.list_objects(fixed), key=lambda info: info.key.encode())
        if expression.fullmatch(info.key) and not hidden(info.key) and not info.key.endswith("/")
    ]
    if not objects:  # a bucket has no empty folders
        raise _missing(location)
    return [_object(store, info) for info in objects]


def _compile(pattern: str) -> re.Pattern[str]:
    """Returns a glob as a regular expression over keys, also over those below what it names.

    `*` and `?` stay within a part of the path, `**` does not.
    """
    tokens = re.findall(r"\*\*/?|\*|\?|\[!?\]?[^\]]*\]|[^*?[]+|\[", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def translated(token: str) -> str:
        if token in known:
            return known[token]
        if len(token) > 2 and token.startswith("["):
            inner = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            return f"[{'^' + inner[1:] if inner.startswith('!') else inner.replace('^', chr(92) + '^')}]"
        return re.escape(token)

    below = "(?:/.*)?" if pattern else ".*"
    return re.compile("".join(map(translated, tokens)) + below, re.DOTALL)


def _object(store: ObjectStore, info: ObjectInfo) -> InputFile:
    def open_raw() -> io.BufferedReader:
        if info.size_bytes <= PIECE_BYTES:
            return io.BufferedReader(io.BytesIO(store.get(info.key)))
        return io.BufferedReader(ObjectStream(store, info), PIECE_BYTES)

    return InputFile(f"{store.url}/{info.key}", info.size_bytes, None, open_raw)


def open_each(inputs: Sequence[InputFile]) -> Iterator[tuple[InputFile, io.BufferedReader]]:
    """Yields the files one after the other, each opened and decompressed, without its byte order mark.

    Objects of a bucket are fetched ahead. Each file is closed when the next one is asked for.

    Raises:
        PermanentError: A file cannot be read, or is not compressed as its name says; so do reads within `reading`.
        TransientError: The store does not answer.
    """
    remote = any(file.path is None for file in inputs)
    opened = (
        map_ahead(lambda file: file.open_raw(), inputs, workers=_READERS, ahead=_AHEAD)
        if remote
        else map(_open_local, inputs)
    )
    for file, raw in zip(inputs, opened, strict=True):
        with raw, reading(file):
            yield file, _without_mark(_decompressed(file, raw))


def _open_local(file: InputFile) -> io.BufferedReader:
    with reading(file):
        return file.open_raw()


@contextmanager
def reading(file: InputFile) -> Iterator[None]:
    """Turns what goes wrong while a file is read into an error that names it."""
    try:
        yield
    except _UNREADABLE as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise PermanentError(
            f"{file.name} cannot be read: {reason}.", next_step="mend or remove that file, and run the job again"
        ) from error


def _decompressed(file: InputFile, raw: io.BufferedReader) -> io.BufferedReader:
    if file.name.endswith(".gz"):
        return cast("io.BufferedReader", gzip.open(raw))
    if file.name.endswith(".bz2"):
        return cast("io.BufferedReader", bz2.open(raw))
    if file.name.endswith(".zst"):
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
    return raw


def _without_mark(stream: io.BufferedReader) -> io.BufferedReader:
    if stream.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):
        stream.read(len(BYTE_ORDER_MARK))
    return stream
