"""The rows of an import, and how a row becomes a frame or a dead letter."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from imgpipeline.contracts.outcomes import DeadLetter, Frame
from imgpipeline.contracts.times import day_of
from imgpipeline.errors import BadInputError, DeadLetterCode

MOST_ROW_BYTES = 4 * 2**20
"""A larger row or document becomes a dead letter and is not loaded as a whole."""

Progress = Callable[[int, int], None]
"""Called with the bytes read and the bytes in all."""


def not_shown(done: int, total: int) -> None:
    """Ignores progress."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a CSV file, or one JSON document."""

    place: str
    """Where it is, for messages: `counts.csv:17`, or the document's file."""
    raw: bytes
    """Its bytes without the separator; for a row over the limit only a hash."""
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


class Rows(Protocol):
    """An input that can be read repeatedly from its start."""

    def read(self, progress: Progress) -> Iterator[Row]:
        """Yields the rows in order."""


class Meaning(Protocol):
    """Turns rows of one kind into frames."""

    @property
    def recipe(self) -> str:
        """What the outcome of a row depends on besides the row, such as columns and names; fixed for an import."""

    def frame_of(self, row: Row, offset: int, known: "Known") -> Frame:
        """Returns the frame of a row.

        Args:
            row: A row that could be read.
            offset: Its number, from 0.
            known: Filled while the row is read, for the dead letter that it may become.

        Raises:
            BadInputError: The row is bad; the message names the field, what was found and what was expected.
        """


@dataclass(slots=True)
class Known:
    """What is known so far of a row that may become a dead letter."""

    timestamp: datetime | None = None
    """Its time."""
    source: str | None = None
    """Its source."""
    image_path: str | None = None
    """Its image."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Which rows are accepted."""

    first_day: date
    """First accepted day."""
    latest: datetime
    """Rows with a later time are dead letters."""
    raw_bytes: int
    """Largest row that a dead letter keeps."""

    def is_accepted(self, time: datetime) -> bool:
        """Returns whether a frame may have this time."""
        return self.first_day <= day_of(time) and time <= self.latest


def outcome_of(row: Row, offset: int, meaning: Meaning, limits: Limits) -> Frame | DeadLetter:
    """Returns the frame of a row; for a bad row, a dead letter with its place and bytes."""
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
        raw_base64=base64.b64encode(row.raw).decode() if kept else None,
    )


def latest_accepted(now: datetime, max_future_s: float) -> datetime:
    """Returns the latest time that a frame may have."""
    return now + timedelta(seconds=max_future_s)


def bad_row(name: str, found: object, expected: str) -> BadInputError:
    """Returns the error for a field that does not hold what was expected."""
    shown = repr(found) if isinstance(found, str | int | float | type(None)) else f"a JSON {type(found).__name__}"
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    return BadInputError(DeadLetterCode.BAD_ROW, f"{name}: got {shown}, expected {expected}.")
