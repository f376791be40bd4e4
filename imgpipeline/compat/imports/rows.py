"""The rows of an import: their fields, how they become frames or dead letters, and the hash that recognizes them."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from hashlib import sha256
from typing import Any, Protocol

from imgpipeline.contracts.message_fields import check_storable, checked_text, invalid_field, shown
from imgpipeline.contracts.outcomes import DeadLetter, Frame
from imgpipeline.contracts.records import RawRecord
from imgpipeline.contracts.times import day_of, parse_time
from imgpipeline.errors import BadInputError, DeadLetterCode

MOST_ROW_BYTES = 4 * 2**20
"""A larger row or document becomes a dead letter, and is never loaded as a whole."""

Progress = Callable[[int, int], None]
"""Called with the number of bytes read and of all bytes."""


def not_shown(done: int, total: int) -> None:
    """Ignores progress."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a CSV file, or one JSON document."""

    place: str
    """Its location for messages: `counts.csv:17`, or the document's file."""
    raw: bytes
    """Its bytes without the separator; only a hash for a row over the limit."""
    fields: Any
    """Its content: the texts of a CSV row, or a JSON object; None if it could not be read."""
    problem: str = ""
    """Why it could not be read; empty if it could."""
    raw_size_bytes: int | None = None
    """Its size, if `raw` is only a hash."""

    @property
    def size_bytes(self) -> int:
        """Its size in bytes."""
        return len(self.raw) if self.raw_size_bytes is None else self.raw_size_bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of its bytes, 64 hexadecimal digits."""
        return sha256(self.raw).hexdigest() if self.raw_size_bytes is None else self.raw.hex()


class Rows(Protocol):
    """An input that can be read repeatedly from its start."""

    def read(self, progress: Progress) -> Iterator[Row]:
        """Yields the rows in order."""


class Meaning(Protocol):
    """Turns rows of one kind into frames."""

    @property
    def recipe(self) -> str:
        """Everything except the row that its outcome depends on, such as columns and names; fixed for an import."""

    def frame_of(self, row: Row, offset: int, known: "Known") -> Frame:
        """Returns the frame of a row.

        Args:
            row: A row that could be read.
            offset: Its number, from 0.
            known: Filled in while the row is read, in case it becomes a dead letter.

        Raises:
            BadInputError: The row is invalid; the message names the field, what was found and what was expected.
        """


@dataclass(slots=True)
class Known:
    """The fields of a row that were read before it became a dead letter."""

    timestamp: datetime | None = None
    source: str | None = None
    image_path: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Which rows are accepted."""

    first_day: date
    latest: datetime
    """Rows with a later time are dead letters."""
    raw_bytes: int
    """Size of the largest row that a dead letter keeps."""

    def is_accepted(self, time: datetime) -> bool:
        """Returns whether a frame with this time is accepted."""
        return self.first_day <= day_of(time) and time <= self.latest


def outcome_of(row: Row, offset: int, meaning: Meaning, limits: Limits) -> Frame | DeadLetter:
    """Returns the frame of a row, or a dead letter with the place and bytes of an invalid row."""
    known = Known()
    try:
        if row.problem:
            code = DeadLetterCode.TOO_LARGE if row.raw_size_bytes is not None else DeadLetterCode.BAD_ROW
            raise BadInputError(code, row.problem)
        frame = meaning.frame_of(row, offset, known)
        if not limits.is_accepted(frame.timestamp):
            raise BadInputError(
                DeadLetterCode.TIMESTAMP_OUT_OF_RANGE,
                f"timestamp: got {frame.timestamp:%Y-%m-%dT%H:%M:%SZ}, expected one from {limits.first_day} to now.",
            )
    except BadInputError as error:
        return _bury(row, offset, error, known, limits)
    return frame


def _bury(row: Row, offset: int, error: BadInputError, known: Known, limits: Limits) -> DeadLetter:
    kept = row.raw_size_bytes is None and len(row.raw) <= limits.raw_bytes
    time = known.timestamp
    return DeadLetter(
        offset=offset,
        code=DeadLetterCode.BAD_ROW if error.code is DeadLetterCode.INVALID_MESSAGE else error.code,
        message=f"{row.place}: {error.message}",
        timestamp=time,
        day=day_of(time) if time is not None and limits.is_accepted(time) else None,
        source=known.source,
        image_path=known.image_path,
        raw_size_bytes=row.size_bytes,
        raw_sha256=row.sha256,
        session=(known.source, None) if known.source else None,
        raw=RawRecord(row.raw) if kept else None,
    )


def bad_row(name: str, found: object, expected: str) -> BadInputError:
    """Returns the error for a field with an unexpected value."""
    return invalid_field(name, shown(found), expected)


class RollingHash:
    """SHA-256 of all rows so far.

    It covers the length and the bytes of each row, so two different sequences of rows never have the same input.
    """

    def __init__(self) -> None:
        """Starts before the first row."""
        self._hash = sha256()
        self.rows = 0
        """Rows added."""

    def add(self, raw: bytes) -> None:
        """Adds the next row."""
        self._hash.update(b"%d:" % len(raw))
        self._hash.update(raw)
        self.rows += 1

    def value(self) -> str:
        """Returns the hash of all rows so far, 64 hexadecimal digits."""
        return self._hash.hexdigest()


Box = tuple[float, float, float, float]
_NUMBERS = frozenset({int, float})
_MOST = 1e9
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))


def text_of(name: str, value: object) -> str:
    """Returns text as `checked_text`, without surrounding spaces.

    Raises:
        BadInputError: It is something else.
    """
    return checked_text(name, value.strip() if isinstance(value, str) else value)


def time_of(name: str, value: object, zone: tzinfo = UTC) -> datetime:
    """Returns a time from RFC 3339 (local time of `zone` if it has no offset), or from Unix time as a number or text.

    Raises:
        BadInputError: It is not a time.
    """
    try:
        if isinstance(value, str):
            try:
                return parse_time(value, zone)
            except ValueError:
                return parse_time(float(value))
        if isinstance(value, int | float):
            return parse_time(value)
    except (ValueError, OverflowError):
        pass
    raise bad_row(name, value, "a time such as 2026-01-09T12:00:00Z")


def confidence_of(name: str, value: object) -> float:
    """Returns a number from 0 to 1; raises BadInputError if the value is something else."""
    number = _float(value)
    if number is None or not 0.0 <= number <= 1.0:
        raise bad_row(name, value, "a number from 0 to 1")
    return number


def number_of(name: str, value: object) -> float:
    """Returns a number between -1e9 and 1e9, so summaries can put it into bins.

    Raises:
        BadInputError: It is something else.
    """
    number = _float(value)
    if number is None or not -_MOST < number < _MOST:
        raise bad_row(name, value, "a number between -1e9 and 1e9")
    return number


def count_of(name: str, value: object) -> int:
    """Returns a whole number from 0 to 2**31 - 1; raises BadInputError if the value is something else."""
    return _whole(name, value, 2**31)


def large_count_of(name: str, value: object) -> int:
    """Returns a whole number from 0 to 2**63 - 1; raises BadInputError if the value is something else."""
    return _whole(name, value, 2**63)


def size_of(name: str, value: object) -> int:
    """Returns a size in bytes below one tebibyte, so the sizes of millions of frames can be added up.

    Raises:
        BadInputError: It is something else.
    """
    return _whole(name, value, 2**40)


def _whole(name: str, value: object, limit: int) -> int:
    if type(value) is int and 0 <= value < limit:
        return value
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or not 0 <= value < limit:
        raise bad_row(name, value, f"a whole number from 0 below {limit}")
    return int(value)


def _float(value: object) -> float | None:
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def box_of(name: str, value: object) -> Box:
    """Returns left, top, width and height of a box.

    Args:
        value: A list of left, top, width and height, or an object with these, or with two corners.

    Raises:
        BadInputError: It is none of these.
    """
    if isinstance(value, list) and len(value) == 4:
        left, top, width, height = value
        if _NUMBERS.issuperset(map(type, value)) and _are_pixels(left, top) and width >= 0 <= height < _MOST > width:
            return float(left), float(top), float(width), float(height)
        return _box(name, value, value)
    if isinstance(value, dict):
        for names in _SIZES:
            if all(key in value for key in names):
                return _box(name, value, [value[key] for key in names])
        for names in _CORNERS:
            if all(key in value for key in names):
                left, top, right, bottom = (number_of(f"{name}.{key}", value[key]) for key in names)
                return _box(name, value, [left, top, right - left, bottom - top])
    raise bad_row(name, value, "left, top, width and height, or two corners")


def _are_pixels(left: float, top: float) -> bool:
    return -_MOST < left < _MOST and -_MOST < top < _MOST


def _box(name: str, value: object, parts: list[Any]) -> Box:
    left, top, width, height = (number_of(name, part) for part in parts)
    if width < 0 or height < 0:
        raise bad_row(name, f"width {width}, height {height}" if isinstance(value, list) else value, "a size from 0")
    return left, top, width, height


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """Rejects values that later readers cannot handle: deep nesting, null characters, NaN.

    Raises:
        BadInputError: The attributes contain such a value.
    """
    if all(map(_is_harmless, attributes)) and all(map(_is_harmless, attributes.values())):
        return
    check_storable(attributes)
    level: list[Any] = [attributes]
    while level:
        parts = [part for value in level for part in (value.values() if isinstance(value, dict) else value)]
        if any(isinstance(part, float) and not math.isfinite(part) for part in parts):
            raise bad_row("attributes", "NaN or infinity", "finite numbers")
        level = [part for part in parts if isinstance(part, dict | list)]


def _is_harmless(value: object) -> bool:
    """Returns quickly whether a value is of a common kind that can be stored unchanged."""
    return type(value) is int or (type(value) is str and value.isascii() and "\x00" not in value)
