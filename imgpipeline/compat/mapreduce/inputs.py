"""Input files of a job, as Hadoop reads them: their lines, or their documents as files of JSON lines for DuckDB.

Files and folders whose names begin with `_` or `.` are skipped (`_SUCCESS`, `.part-00000.crc`), unless they are named
explicitly. An empty folder is empty input. `.gz`, `.bz2` and `.zst` are decompressed, and a byte order mark at the
start of a file is dropped. Lines end with LF, CRLF or CR.

A file of documents contains either JSON lines (the first line that is not blank is a document), or one pretty-printed
document over several lines. Any other file is read as lines, some of which may be documents. Documents keep the order
of the files and of their positions in them.
"""

import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import zstandard

from imgpipeline.errors import PermanentError
from imgpipeline.lake.storage.engine import disk_errors
from imgpipeline.objectstore.files import InputFile, Selection, find_inputs, open_decompressed
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.objectstore.reading import PIECE_BYTES
from imgpipeline.settings import Settings

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLOCK_BYTES = 4 * 2**20
"""Approximate size of each read; a block is at least as long as its longest line."""
COMPRESSED = (".gz", ".bz2", ".zst")
"""Endings of files that are decompressed."""
_HADOOP = Selection(hidden=("_", "."), globs_take_folders=True)
_READERS = 16
_AHEAD = 32
_UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError)


def find_job_inputs(location: str, settings: Settings) -> list[InputFile]:
    """Returns the files that a job reads, in order; arguments and errors as `find_inputs`."""
    return find_inputs(location, settings, _HADOOP)


def open_each(inputs: Sequence[InputFile]) -> Iterator[tuple[InputFile, io.BufferedReader]]:
    """Yields the files in order, each opened and decompressed, without its byte order mark.

    Small objects of a bucket are fetched ahead. Each file is closed when the next one is requested.

    Raises:
        PermanentError: A file cannot be read, or is not compressed as its name says. The same goes for reads from the
            stream inside `reading`.
        TransientError: The store does not answer.
    """
    ahead = map_ahead(_open, filter(_is_small_object, inputs), workers=_READERS, ahead=_AHEAD)
    for file in inputs:
        raw = next(ahead) if _is_small_object(file) else _open(file)
        with raw, reading(file):
            stream = open_decompressed(raw, file.where)
            if stream.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):
                stream.read(len(BYTE_ORDER_MARK))
            yield file, stream


def _is_small_object(file: InputFile) -> bool:
    """Returns whether an object fits into memory; the disk holds only one of the others at a time."""
    return file.path is None and file.size_bytes <= PIECE_BYTES


def _open(file: InputFile) -> io.BufferedReader:
    with reading(file):
        return file.open_raw()


@contextmanager
def reading(file: InputFile) -> Iterator[None]:
    """Turns errors while a file is read into one that names the file.

    Raises:
        PermanentError: The file cannot be read.
    """
    try:
        yield
    except _UNREADABLE as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise PermanentError(
            f"{file.where} cannot be read: {reason}.", next_step="repair or remove that file, and run the job again"
        ) from error


def read_blocks(inputs: Sequence[InputFile]) -> Iterator[bytes]:
    """Yields the lines of all files in blocks, in which every line ends with LF.

    Raises:
        PermanentError: A file cannot be read.
        TransientError: The store does not answer.
    """
    for file, stream in open_each(inputs):
        yield from _blocks(file, stream)


def _blocks(file: InputFile, stream: io.BufferedReader) -> Iterator[bytes]:
    parts: list[bytes] = []
    held = b""  # a CR at the end of the data, because an LF may follow
    while True:
        with reading(file):
            data = stream.read(BLOCK_BYTES)
        text = held + data
        held = b"\r" if data and text.endswith(b"\r") else b""
        text = text[: len(text) - len(held)]
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        whole, newline, rest = text.rpartition(b"\n")
        if newline:
            yield b"".join([*parts, whole, newline])
            parts = []
        if rest:
            parts.append(rest)
        if not data:
            break
    if parts:
        yield b"".join([*parts, b"\n"])


LONGEST_BYTES = 2**24
"""Maximum length of a line and of a document over several lines: DuckDB's limit."""
_LARGE_BYTES = 2**20
"""Files of at least this size are read in place if possible."""
_COPY_BYTES = 4 * 2**20
_ON_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""In JSON, line ends only occur between tokens, where a space means the same."""


def line_files(inputs: Sequence[InputFile], folder: Path) -> list[Path]:
    """Returns files of JSON lines with the documents of all inputs, in order.

    Raises:
        PermanentError: A file cannot be read, or the local disk is full.
        TransientError: The store does not answer.
    """
    files: list[Path] = []
    copied: list[InputFile] = []
    for file in inputs:
        if _readable_in_place(file) and file.path:
            files += _copy(copied, folder / f"{len(files):08d}.jsonl")
            copied = []
            files.append(file.path)
        else:
            copied.append(file)
    return files + _copy(copied, folder / f"{len(files):08d}.jsonl")


def _readable_in_place(file: InputFile) -> bool:
    # DuckDB interprets `*`, `?` and `[` in a path as a glob.
    if file.path is None or file.size_bytes < _LARGE_BYTES or file.where.endswith(COMPRESSED):
        return False
    if set("*?[") & set(str(file.path)):
        return False
    with reading(file), file.open_raw() as stream:
        head = stream.read(_LARGE_BYTES)
    return not head.startswith(BYTE_ORDER_MARK) and _begins_with_a_line(head, whole=False)


def _begins_with_a_line(head: bytes, *, whole: bool) -> bool:
    """Returns whether the first line that is not blank is JSON; a line longer than the head counts as JSON."""
    head = head.lstrip()
    line, newline, _ = head.partition(b"\n")
    if not newline and not whole:
        return True
    return _is_json(line)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _copy(inputs: Sequence[InputFile], path: Path) -> list[Path]:
    if not inputs:
        return []
    with disk_errors(path.parent), path.open("wb") as target:
        for file, stream in open_each(inputs):
            for piece in _as_lines(file, stream):
                target.write(piece)
    return [path]


def _as_lines(file: InputFile, stream: io.BufferedReader) -> Iterator[bytes]:
    with reading(file):
        head = stream.read(_LARGE_BYTES)
        whole = len(head) < _LARGE_BYTES
        if not _begins_with_a_line(head, whole=whole):
            head += stream.read(LONGEST_BYTES - len(head))
            if len(head) < LONGEST_BYTES and _is_json(head):
                head = head.translate(_ON_ONE_LINE)
    last = b""
    while head:
        yield head
        last = head[-1:]
        with reading(file):
            head = stream.read(_COPY_BYTES)
    if last not in (b"", b"\n"):
        yield b"\n"
