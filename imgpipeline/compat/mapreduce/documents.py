"""Prepares input files for DuckDB as files of JSON lines; large files that already are JSON lines are read in place.

A file contains either JSON lines (the first line that is not blank is a document), or one pretty-printed document over
several lines. Any other file is read as lines, some of which may be documents. Documents keep the order of the files
and of their positions in them.
"""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from imgpipeline.compat.mapreduce.inputs import BYTE_ORDER_MARK, COMPRESSED, open_each, reading
from imgpipeline.lake.storage.engine import disk_errors
from imgpipeline.objectstore.files import InputFile

LONGEST_BYTES = 2**24
"""Maximum length of a line and of a document over several lines: DuckDB's limit."""
_LARGE_BYTES = 2**20
"""Files of at least this size are read in place if possible."""
_COPY_BYTES = 4 * 2**20
_ON_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""In JSON, line ends only occur between tokens, where a space means the same."""


def line_files(inputs: Sequence[InputFile], folder: Path) -> list[Path]:
    """Returns files of JSON lines with the documents of all inputs, in order.

    Args:
        inputs: The files, in order.
        folder: The folder for copies of files that cannot be read in place.

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
