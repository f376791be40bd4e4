"""The rows of an import: how they become frames or dead letters, and the hash that recognizes them later."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol

from imgpipeline.contracts.outcomes import DeadLetter, Frame
from imgpipeline.contracts.records import RawRecord
from imgpipeline.contracts.times import day_of
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
    """First accepted day."""
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
        code=error.code,
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


def latest_accepted(now: datetime, max_future_s: float) -> datetime:
    """Returns the latest time that a frame may have."""
    return now + timedelta(seconds=max_future_s)


def bad_row(name: str, found: object, expected: str) -> BadInputError:
    """Returns the error for a field with an unexpected value."""
    shown = repr(found) if isinstance(found, str | int | float | type(None)) else f"a JSON {type(found).__name__}"
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    return BadInputError(DeadLetterCode.BAD_ROW, f"{name}: got {shown}, expected {expected}.")


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
