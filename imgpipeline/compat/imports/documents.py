"""Reads JSON documents from files, in the order of the file names.

Files named `.jsonl` or `.ndjson` hold one document per line (blank lines are skipped); any other file is one document.
"""

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from typing import IO, Any

from imgpipeline.compat.imports.files import open_text
from imgpipeline.compat.imports.rows import MOST_ROW_BYTES, Progress, Row
from imgpipeline.objectstore.ahead import map_ahead
from imgpipeline.objectstore.inputs import InputFile

ENDINGS = (".json", ".jsonl", ".ndjson")
"""Endings of the files that a folder stands for, each also followed by `.gz`."""
_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_READERS = 16
_AHEAD = 64
_ROWS_A_REPORT = 1_000


class Documents:
    """The documents of some files."""

    def __init__(self, files: Sequence[InputFile]) -> None:
        """Takes the files that `find_files` returned."""
        self._files = files

    def read(self, progress: Progress) -> Iterator[Row]:
        """Yields the documents, file by file."""
        total, done = sum(file.size_bytes for file in self._files), 0
        for is_lines, files in groupby(self._files, lambda file: file.name.endswith(_LINES)):
            if is_lines:
                for file in files:
                    yield from _read_lines(file, done, total, progress)
                    done += file.size_bytes
            else:
                for number, (row, size_bytes) in enumerate(_read_each(files)):
                    done += size_bytes
                    if number % _ROWS_A_REPORT == 0:
                        progress(done, total)
                    yield row
        progress(total, total)


def _read_each(files: Iterator[InputFile]) -> Iterator[tuple[Row, int]]:
    """Reads files of one document each; those in a bucket several at a time."""
    for is_remote, some in groupby(files, lambda file: file.path is None):
        if is_remote:
            yield from map_ahead(_read_one, some, workers=_READERS, ahead=_AHEAD)
        else:
            yield from map(_read_one, some)


def _read_one(file: InputFile) -> tuple[Row, int]:
    with open_text(file) as opened:
        raw = opened.file.read(MOST_ROW_BYTES + 1)
        if len(raw) > MOST_ROW_BYTES:
            return _too_large(file.name, raw, iter(lambda: opened.file.read(2**20), b"")), file.size_bytes
    return _row(file.name, raw.strip()), file.size_bytes


def _read_lines(file: InputFile, done: int, total: int, progress: Progress) -> Iterator[Row]:
    with open_text(file) as opened:
        for number, line in enumerate(iter(lambda: opened.file.readline(MOST_ROW_BYTES + 1), b""), 1):
            if number % _ROWS_A_REPORT == 0:
                progress(done + opened.position, total)
            place = f"{file.name}:{number}"
            if len(line) > MOST_ROW_BYTES and not line.endswith(b"\n"):
                yield _too_large(place, line, _rest_of_line(opened.file))
            elif raw := line.strip():
                yield _row(place, raw)


def _rest_of_line(file: IO[bytes]) -> Iterator[bytes]:
    while part := file.readline(2**20):
        yield part
        if part.endswith(b"\n"):
            return


def _too_large(place: str, begin: bytes, rest: Iterator[bytes]) -> Row:
    digest, size_bytes = sha256(begin), len(begin)
    for part in rest:
        digest.update(part)
        size_bytes += len(part)
    problem = f"got {size_bytes} bytes, expected at most {MOST_ROW_BYTES}."
    return Row(place, digest.digest(), None, problem, raw_size_bytes=size_bytes)


def _row(place: str, raw: bytes) -> Row:
    found: Any = None
    problem = ""
    try:
        found = json.loads(raw.decode("utf-8-sig"))
        if not isinstance(found, dict):
            problem = f"got a JSON {type(found).__name__}, expected a JSON object."
    except UnicodeDecodeError as error:
        problem = f"it holds a byte that is not UTF-8 at position {error.start}."
    except (ValueError, RecursionError) as error:
        problem = f"it is not valid JSON: {error}."
    return Row(place, raw, found, problem)
