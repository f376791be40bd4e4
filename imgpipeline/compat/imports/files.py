"""Input files of imports: finding them, and opening them as text."""

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore.inputs import InputFile, Selection, find_inputs, open_decompressed
from imgpipeline.settings import Settings

_NO_TEXT = {
    b"\xff\xfe": ("UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"),
    b"PK\x03\x04": ("a ZIP archive or a spreadsheet", "unpack it, or save it as CSV"),
    b"PAR1": ("Parquet", "write it as CSV, for example with DuckDB's COPY … TO … (FORMAT csv)"),
    b"BZh": ("bzip2", "decompress it, or compress it with gzip"),
    b"\xfd7zXZ": ("xz", "decompress it, or compress it with gzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "decompress it, or compress it with gzip"),
}
_GZIP = b"\x1f\x8b"


@dataclass(slots=True)
class Opened:
    """A file that is being read."""

    file: IO[bytes]
    """Its content, decompressed."""
    raw: IO[bytes]
    """Its stored bytes."""

    @property
    def position(self) -> int:
        """How many of its stored bytes were read."""
        return 0 if self.raw.closed else self.raw.tell()


@contextmanager
def open_text(found: InputFile) -> Iterator[Opened]:
    """Opens a file for reading. Gzip is recognized by its content, whatever the file's name.

    Raises:
        ConfigurationError: The file cannot be opened, or is not text.
        PermanentError: (while it is read) Its gzip is damaged, or the disk cannot be read.
    """
    try:
        with found.open_raw() as raw:
            file = open_decompressed(raw, ".gz" if raw.peek(2)[:2] == _GZIP else "")
            _refuse_other_formats(file, found.where)
            yield Opened(file, raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PermanentError(
            f"{found.where} is not a complete gzip file: {error}.",
            next_step="compress it again; the rows before the damage are in the ledger, and an import continues there",
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{found.where} cannot be read: {error.strerror or error}.", next_step="name a file that can be read"
        ) from None


def _refuse_other_formats(file: io.BufferedReader, where: str) -> None:
    start = file.peek(8)
    for magic, (name, step) in _NO_TEXT.items():
        if start.startswith(magic):
            raise ConfigurationError(f"{where} is {name}, expected UTF-8 text.", next_step=step)


def find_files(settings: Settings, paths: Sequence[str], endings: Sequence[str]) -> list[InputFile]:
    """Lists the files of several paths.

    Args:
        settings: Credentials of `s3://` paths.
        paths: Files, folders, globs such as `docs/*.json`, `s3://bucket/prefix`.
        endings: Which files of a folder or prefix are taken, such as `.json`; each also with `.gz` appended.

    Returns:
        The files in the order of their full names, each once.

    Raises:
        ConfigurationError: A path does not exist, cannot be read more than once, or has no such file.
        TransientError: The store does not answer.
    """
    selection = Selection(tuple(ending + compressed for ending in endings for compressed in ("", ".gz")))
    found: dict[str, InputFile] = {}
    for path in paths:
        files = find_inputs(path, settings, selection)
        if not files:
            raise ConfigurationError(
                f"{path} holds no file to import.", next_step=f"name a file, or a place with files {' '.join(endings)}"
            )
        for file in files:
            _refuse_pipe(file)
            found[file.where] = file
    return [found[where] for where in sorted(found)]


def _refuse_pipe(file: InputFile) -> None:
    if file.path is not None and not file.path.is_file():
        raise ConfigurationError(
            f"{file.where} is not a file: an import reads its rows more than once, which a pipe does not allow.",
            next_step="write the rows to a file, and name that",
        )
