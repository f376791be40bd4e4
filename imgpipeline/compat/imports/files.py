"""The files of an import: where they are, and opening them.

Owns local files, folders, globs and `s3://` prefixes, gzip, and the refusal of what is no text. It promises the same
order of files at each call, and that an opened file is read in pieces. What is in a file belongs to `csv_rows` and
`documents`.
"""

import glob
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from stat import S_ISREG
from typing import IO

from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_bucket
from imgpipeline.objectstore.pieces import open_object
from imgpipeline.settings import Settings

_WILDCARDS = frozenset("*?[")
_NO_TEXT = {
    b"\xff\xfe": ("UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"),
    b"PK\x03\x04": ("a ZIP archive or a spreadsheet", "unpack it, or save it as CSV"),
    b"PAR1": ("Parquet", "write it as CSV, with DuckDB's COPY … TO … (FORMAT csv), say"),
    b"BZh": ("bzip2", "unpack it, or pack it with gzip"),
    b"\xfd7zXZ": ("xz", "unpack it, or pack it with gzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unpack it, or pack it with gzip"),
}
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file that can be opened, time and again."""

    name: str
    """Its name within what was asked for, with `/` between its parts."""
    where: str
    """Where it is, for messages."""
    size_bytes: int
    """Its size as it was found."""
    open_raw: Callable[[], IO[bytes]]
    """Opens its bytes."""


@dataclass(slots=True)
class Opened:
    """A file that is being read."""

    file: IO[bytes]
    """Its content, unpacked."""
    raw: IO[bytes]
    """Its bytes."""

    @property
    def position(self) -> int:
        """How many of its bytes were read."""
        return 0 if self.raw.closed else self.raw.tell()


@contextmanager
def open_text(found: InputFile) -> Iterator[Opened]:
    """Opens a file for reading, unpacking gzip.

    Raises:
        ConfigurationError: It cannot be opened, or is no text.
        PermanentError: (while it is read) Its gzip is damaged, or the disk cannot be read.
    """
    try:
        with found.open_raw() as raw:
            buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)  # type: ignore[type-var]  # a raw file
            packed = buffered.peek(2)[:2] == _GZIP
            file = io.BufferedReader(gzip.GzipFile(fileobj=buffered)) if packed else buffered
            _refuse_other_formats(file.peek(8), found.where)
            yield Opened(file, buffered)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PermanentError(
            f"{found.where} is no whole gzip file: {error}.",
            next_step="pack it again; what was read before is in the ledger, and the next import goes on behind it",
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{found.where} cannot be read: {error.strerror or error}.", next_step="name a file that can be read"
        ) from None


def _refuse_other_formats(begin: bytes, where: str) -> None:
    for magic, (name, step) in _NO_TEXT.items():
        if begin.startswith(magic):
            raise ConfigurationError(f"{where} is {name}, expected UTF-8 text.", next_step=step)


def find_files(settings: Settings, paths: Sequence[str], endings: Sequence[str]) -> list[InputFile]:
    """Finds the files that are meant.

    Args:
        settings: Credentials of `s3://` paths.
        paths: Files, folders, patterns such as `docs/*.json`, `s3://bucket/prefix`.
        endings: Which files of a folder or prefix are taken, such as `.json`; each also with `.gz` behind it.

    Returns:
        The files in the order of their full names, each once.

    Raises:
        ConfigurationError: A path is not there, or has no such file.
        TransientError: The store does not answer.
    """
    taken = tuple(ending + packed for ending in endings for packed in ("", ".gz"))
    found: dict[str, InputFile] = {}
    for path in map(as_s3_url, paths):
        files = list(_in_bucket(settings, path, taken) if path.startswith("s3://") else _on_disk(path, taken))
        if not files:
            raise ConfigurationError(
                f"{path} holds no file to import.", next_step=f"name a file, or a place with files {' '.join(endings)}"
            )
        found |= {file.where: file for file in files}
    return [found[where] for where in sorted(found)]


def _on_disk(text: str, endings: tuple[str, ...]) -> Iterator[InputFile]:
    path = Path(text)
    if path.is_dir():
        for file in path.rglob("*"):
            if file.name.endswith(endings) and file.is_file():
                yield _local(file, file.relative_to(path).as_posix())
    elif path.exists() or not _WILDCARDS & set(text):
        yield _local(path, path.name)
    else:
        for name in glob.glob(text, recursive=True):  # noqa: PTH207 - Path.glob takes no absolute pattern
            if Path(name).is_file():
                yield _local(Path(name), Path(name).name)


def _local(path: Path, name: str) -> InputFile:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror or error}.", next_step="name a file or folder that is there"
        ) from None
    if not S_ISREG(found.st_mode):
        raise ConfigurationError(
            f"{path} is no file: an import reads its rows more than once, which a pipe does not allow.",
            next_step="write them into a file, and name that",
        )
    return InputFile(_as_text(name), _as_text(str(path.absolute())), found.st_size, lambda: path.open("rb"))


def _as_text(name: str) -> str:
    """Returns a name in which bytes that are no UTF-8 are spelled out: it is kept in the ledger and printed."""
    return name.encode("utf-8", "backslashreplace").decode()


def _in_bucket(settings: Settings, url: str, endings: tuple[str, ...]) -> Iterator[InputFile]:
    bucket, _, rest = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise ConfigurationError(f"{url} names no bucket.", next_step="name s3://bucket/prefix")
    store = open_bucket(settings, bucket)
    key = rest.rstrip("/")
    if _WILDCARDS & set(key):
        plain = key[: min(key.index(c) for c in _WILDCARDS & set(key))]
        prefix = plain.rpartition("/")[0]
        for info in store.list_objects(prefix):
            if _matches(info.key, key):
                yield _stored(store, info.key, info.key[len(prefix) :].lstrip("/"), info.size_bytes)
        return
    single = store.head(key) if key else None
    if single is not None:
        yield _stored(store, key, key.rpartition("/")[2], single.size_bytes)
        return
    for info in store.list_objects(key):
        if info.key.endswith(endings):
            yield _stored(store, info.key, info.key[len(key) :].lstrip("/"), info.size_bytes)


def _matches(key: str, pattern: str) -> bool:
    """Tells whether a pattern means a key; without `**` its wildcards stay within a part of the path, as in folders."""
    if "**" in pattern:
        return fnmatchcase(key, pattern)
    parts, wanted = key.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _stored(store: ObjectStore, key: str, name: str, size_bytes: int) -> InputFile:
    return InputFile(name, f"{store.url}/{key}", size_bytes, lambda: open_object(store, key))
