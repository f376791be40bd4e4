"""The fields of a message: what each may hold, and the error that names it where it holds something else.

Owns the checks of single values. Which fields make a message belongs to `messages`.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from imgpipeline.contracts.times import parse_time
from imgpipeline.errors import BadInputError, DeadLetterCode

MAX_TEXT = 1_024
"""Longest source or path, in characters."""
_MAX_DEPTH = 32
"""Deepest nesting of attributes."""


def invalid_field(name: str, found: object, expected: str) -> BadInputError:
    """Returns the error for a field that holds something else than expected."""
    shown = str(found)
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    return BadInputError(DeadLetterCode.INVALID_MESSAGE, f"{name}: got {shown}, expected {expected}.")


def checked_text(name: str, value: object) -> str:
    """Returns text of 1 to `MAX_TEXT` characters that can be stored everywhere.

    Raises:
        BadInputError: It is something else; the message names the field.
    """
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT:
        raise invalid_field(name, _shown(value), f"text of 1 to {MAX_TEXT} characters")
    if not _is_plain(value):
        raise invalid_field(name, _shown(value), "text without null characters and lone surrogates")
    return value


def _is_plain(text: str) -> bool:
    """Whether text round-trips through UTF-8, JSON, Parquet and SQL."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def _shown(value: object) -> str:
    """How a value is shown. What nests is not: its text may be endless, or too deep to be made."""
    return f"a JSON {type(value).__name__}" if isinstance(value, dict | list) else repr(value)


def as_text(value: object) -> object:
    """Numbers may name a video, a frame or a camera too."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_count(data: Mapping[str, Any], name: str) -> int | None:
    """Returns a whole number from 0 below 2**63, or None where there is none.

    Raises:
        BadInputError: It is something else; the message names the field.
    """
    value = data.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value < 2**63:
        raise invalid_field(name, _shown(value), "a whole number from 0")
    return int(value)


def read_sha256(data: Mapping[str, Any]) -> str | None:
    """Returns 64 lower-case hexadecimal digits, or None where there are none.

    Raises:
        BadInputError: It is something else.
    """
    value = data.get("sha256")
    if value is None:
        return None
    text = checked_text("sha256", value).lower()
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise invalid_field("sha256", _shown(value), "64 hexadecimal digits")
    return text


def read_timestamp(data: Mapping[str, Any]) -> datetime | None:
    """Returns the announced time, or None where there is none.

    Raises:
        BadInputError: It is no time.
    """
    value = data.get("timestamp")
    if value is None or value == "":
        return None
    try:
        if not isinstance(value, str | int | float):
            raise ValueError("neither text nor a number")
        return parse_time(value)
    except (ValueError, OverflowError):
        raise invalid_field("timestamp", _shown(value), "an RFC 3339 time such as 2026-01-09T12:00:00Z") from None


def check_storable(attributes: Mapping[str, Any]) -> None:
    """Refuses what later readers could not take: deep nesting (they recurse), null characters, lone surrogates.

    Raises:
        BadInputError: `INVALID_MESSAGE`, naming the attributes.
    """
    level: list[Any] = [attributes]
    for _ in range(_MAX_DEPTH):
        parts = [part for value in level for part in _parts(value)]
        level = [part for part in parts if isinstance(part, dict | list)]
        if not all(_is_plain(part) for part in parts if isinstance(part, str)):
            raise invalid_field("attributes", "a null character or lone surrogate", "text that can be stored")
        if not level:
            return
    raise invalid_field("attributes", "deeper nesting", f"at most {_MAX_DEPTH} levels")


def _parts(value: Any) -> Iterable[Any]:
    return (*value.keys(), *value.values()) if isinstance(value, dict) else value
