"""Reads a CSV file row by row: RFC 4180 with any line ends, a header, UTF-8, optionally gzip.

Blank lines are skipped. A bad row does not keep the next one from being read: an unclosed quote swallows at most
128 KiB, Python's limit for a field. The bytes of a row do not depend on line ends.
"""

import csv
import io
from collections.abc import Iterator
from typing import IO

from imgpipeline.compat.imports.files import open_text
from imgpipeline.compat.imports.rows import Progress, Row
from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore.inputs import InputFile

_MOST_LINE_CHARACTERS = 2**20
_ROWS_A_REPORT = 2_000


class CsvRows:
    """The rows of one CSV file."""

    def __init__(self, file: InputFile, delimiter: str = ",") -> None:
        """Reads the header.

        Args:
            file: The file.
            delimiter: One character between fields.

        Raises:
            ConfigurationError: The file cannot be read, is not text, or has no header.
        """
        self._file = file
        self._delimiter = delimiter
        with open_text(file) as opened:
            _, columns = self._begin(opened.file)
        self.columns: tuple[str, ...] = columns
        """Names of the columns, stripped of blanks."""

    def read(self, progress: Progress) -> Iterator[Row]:
        """Yields the rows after the header."""
        with open_text(self._file) as opened:
            lines, _ = self._begin(opened.file)
            reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
            for number, row in enumerate(_rows(lines, reader, self._file.name, len(self.columns))):
                if number % _ROWS_A_REPORT == 0:
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
    """The lines of a file; those of the current row are kept."""

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


def _rows(lines: _Lines, reader: Iterator[list[str]], name: str, width: int) -> Iterator[Row]:
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
            problem = problem or "it holds a byte that is not UTF-8."
        if fields is not None and len(fields) != width:
            problem = problem or f"got {len(fields)} fields, expected {width} as in the header."
        yield Row(f"{name}:{first}", raw, fields, problem)
