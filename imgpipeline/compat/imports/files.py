"""Finds the input files of an import and reads their rows: CSV rows or JSON documents, optionally compressed with gzip.

CSV is RFC 4180 with any line ends, a header, in UTF-8. Blank lines are skipped. A bad row does not affect the next one,
except that an unclosed quote swallows up to 128 KiB, Python's limit for a field. The bytes of a row do not depend on
line ends.

A file in MOT Challenge format has one box per line; the lines of one frame become one document.

JSON documents are read in the order of the file names. Files named `.jsonl` or `.ndjson` hold one document per line;
any other file is one document.
"""

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import groupby
from typing import IO, Any

import numpy as np

from imgpipeline.compat.imports.rows import MOST_ROW_BYTES, Progress, Row
from imgpipeline.contracts.times import format_time
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore.files import InputFile, Selection, find_inputs, open_decompressed
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.settings import Settings
from imgpipeline.tracking.evaluating import read_boxes

ENDINGS = (".json", ".jsonl", ".ndjson")
"""Endings of the documents that are taken from a folder, each also with `.gz` appended."""
_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_READERS = 16
_AHEAD = 64
_DOCUMENTS_PER_REPORT = 1_000
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
_MOST_LINE_CHARACTERS = 2**20
_CSV_ROWS_PER_REPORT = 2_000


@dataclass(slots=True)
class Opened:
    """An open file."""

    file: IO[bytes]
    raw: IO[bytes]

    @property
    def position(self) -> int:
        """Number of stored bytes that have been read."""
        return 0 if self.raw.closed else self.raw.tell()


@contextmanager
def open_text(found: InputFile) -> Iterator[Opened]:
    """Opens a file for reading. Gzip is detected by its content, not by the file name.

    Raises:
        ConfigurationError: The file cannot be opened, or is not text.
        PermanentError: The gzip data is damaged; raised while the file is read.
    """
    try:
        with found.open_raw() as raw:
            file = open_decompressed(raw, ".gz" if raw.peek(2)[:2] == _GZIP else "")
            _refuse_other_formats(file, found.where)
            yield Opened(file, raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PermanentError(
            f"{found.where} is not a complete gzip file: {error}.",
            next_step="compress it again; rows before the damage are in the ledger, and an import continues there",
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
    """Returns the files of several paths in the order of their full names, each once.

    Args:
        settings: Credentials of `s3://` paths.
        paths: Files, folders, globs such as `docs/*.json`, `s3://bucket/prefix`.
        endings: Endings of the files that are taken from a folder or prefix, such as `.json`; each also with `.gz`
            appended.

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
                f"{path} contains no file to import.",
                next_step=f"name a file, or a folder with files {' '.join(endings)}",
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


class CsvRows:
    """The rows of one CSV file."""

    def __init__(self, file: InputFile, delimiter: str = ",") -> None:
        """Reads the header.

        Raises:
            ConfigurationError: The file cannot be read, is not text, or has no header.
        """
        self._file = file
        self._delimiter = delimiter
        with open_text(file) as opened:
            _, columns = self._begin(opened.file)
        self.columns: tuple[str, ...] = columns
        """Names of the columns, without surrounding spaces."""

    def read(self, progress: Progress) -> Iterator[Row]:
        """Yields the rows after the header."""
        with open_text(self._file) as opened:
            lines, _ = self._begin(opened.file)
            reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
            for number, row in enumerate(_csv_rows(lines, reader, self._file.name, len(self.columns))):
                if number % _CSV_ROWS_PER_REPORT == 0:
                    progress(opened.position, self._file.size_bytes)
                yield row
            progress(self._file.size_bytes, self._file.size_bytes)

    def _begin(self, file: IO[bytes]) -> tuple["_Lines", tuple[str, ...]]:
        lines = _Lines(io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline=""))
        try:
            header = next(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except (StopIteration, csv.Error) as error:
            raise ConfigurationError(
                f"{self._file.where} has no header ({error or 'it is empty'}).",
                next_step="start it with the names of the columns, such as timestamp,detected_label,confidence",
            ) from None
        return lines, tuple(name.strip().encode("utf-8", "replace").decode() for name in header)


class _Lines:
    """The lines of a file; keeps those of the current row."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._readline = text.readline
        self.number = 0
        """Lines read so far."""
        self.kept: list[str] = []
        """Lines of the current row."""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._readline(_MOST_LINE_CHARACTERS)
        if not line:
            raise StopIteration
        self.number += 1
        self.kept.append(line)
        return line


def _csv_rows(lines: _Lines, reader: Iterator[list[str]], name: str, width: int) -> Iterator[Row]:
    while True:
        lines.kept.clear()
        first, problem = lines.number + 1, ""
        fields: list[str] | None = None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"it is not valid CSV: {error}, in lines {first} to {lines.number}."
        if fields == []:
            continue
        text = "".join(lines.kept).rstrip("\r\n")
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            raw = text.encode("utf-8", "surrogateescape")
            problem = problem or "it contains a byte that is not UTF-8."
        if fields is not None and len(fields) != width:
            problem = problem or f"got {len(fields)} fields, expected {width} as in the header."
        yield Row(f"{name}:{first}", raw, fields, problem)


class MotFrames:
    """The frames of a file in MOT Challenge format (`det.txt` or `gt.txt`), each a document of `MetadataDocuments`."""

    def __init__(
        self, file: InputFile, *, frame_rate: float, start: datetime, label: str, size: tuple[int, int] | None
    ) -> None:
        """Takes what the file does not contain.

        Args:
            frame_rate: Frames per second.
            start: The time of frame 1.
            label: The label of all boxes.
            size: Width and height of the images in pixels; None if unknown.
        """
        self._file, self._frame_rate, self._start, self._label = file, frame_rate, start, label
        self.size = size
        self.recipe = json.dumps(["mot", frame_rate, format_time(start), label, size])
        """Everything except the file that its frames depend on."""

    def read(self, progress: Progress) -> Iterator[Row]:
        """Yields all frames from number 1 to the last one, also those without a box.

        Raises:
            ConfigurationError: A line is not in MOT Challenge format, or there is no line.
        """
        with open_text(self._file) as opened:
            boxes = read_boxes(io.TextIOWrapper(opened.file, "utf-8-sig", "replace", newline=""), self._file.name)
        if not boxes:
            raise ConfigurationError(f"{self._file.where} has no box.", next_step="name a det.txt or gt.txt with boxes")
        # One rule for the whole file, so that a higher score stays a higher confidence.
        scores = np.concatenate([rows[:, 5] for rows in boxes.values()])
        is_logit = bool(((scores > 1) | ((scores < 0) & (scores != -1))).any())
        width, height = self.size or (None, None)
        for number in range(1, max(boxes) + 1):
            rows = boxes.get(number, np.empty((0, 6)))
            document = {
                "frame_number": number,
                "timestamp": format_time(self._start + timedelta(seconds=(number - 1) / self._frame_rate)),
                "image_width": width,
                "image_height": height,
                "detections": [
                    {
                        "label": self._label,
                        "confidence": _confidence(score, is_logit=is_logit),
                        "box": [x, y, right - x, bottom - y],
                    }
                    for name, x, y, right, bottom, score in rows.tolist()
                    if name < 0 or score != 0  # a true object with 0 is one to ignore
                ],
            }
            yield Row(f"{self._file.name}, frame {number}", json.dumps(document).encode(), document)
        progress(self._file.size_bytes, self._file.size_bytes)


def _confidence(score: float, *, is_logit: bool) -> float:
    """Returns a confidence from 0 to 1; -1 is an unknown one, and becomes 1."""
    return 1 / (1 + math.exp(-max(score, -500.0))) if is_logit else abs(score)


class Documents:
    """The documents of some files."""

    def __init__(self, files: Sequence[InputFile]) -> None:
        """Takes the result of `find_files`."""
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
                    if number % _DOCUMENTS_PER_REPORT == 0:
                        progress(done, total)
                    yield row
        progress(total, total)


def _read_each(files: Iterator[InputFile]) -> Iterator[tuple[Row, int]]:
    """Reads files with one document each; several at a time from a bucket."""
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
    return _document(file.name, raw.strip()), file.size_bytes


def _read_lines(file: InputFile, done: int, total: int, progress: Progress) -> Iterator[Row]:
    with open_text(file) as opened:
        for number, line in enumerate(iter(lambda: opened.file.readline(MOST_ROW_BYTES + 1), b""), 1):
            if number % _DOCUMENTS_PER_REPORT == 0:
                progress(done + opened.position, total)
            place = f"{file.name}:{number}"
            if len(line) > MOST_ROW_BYTES and not line.endswith(b"\n"):
                yield _too_large(place, line, _rest_of_line(opened.file))
            elif raw := line.strip():
                yield _document(place, raw)


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


def _document(place: str, raw: bytes) -> Row:
    found: Any = None
    problem = ""
    try:
        found = json.loads(raw.decode("utf-8-sig"))
        if not isinstance(found, dict):
            problem = f"got a JSON {type(found).__name__}, expected a JSON object."
    except UnicodeDecodeError as error:
        problem = f"it contains a byte that is not UTF-8 at position {error.start}."
    except (ValueError, RecursionError) as error:
        problem = f"it is not valid JSON: {error}."
    return Row(place, raw, found, problem)
