"""Checks and converts fields of imported rows; errors name the field, what was found and what was expected."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from imgpipeline.compat.imports.rows import bad_row
from imgpipeline.contracts.message_fields import MAX_TEXT, check_storable, is_storable
from imgpipeline.contracts.times import parse_time
from imgpipeline.errors import BadInputError, DeadLetterCode

Box = tuple[float, float, float, float]
_NUMBERS = frozenset({int, float})
_MOST = 1e9
_CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_SIZES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))


def text_of(name: str, value: object) -> str:
    """Returns storable text of 1 to `MAX_TEXT` characters, without surrounding spaces.

    Raises:
        BadInputError: It is something else.
    """
    text = value.strip() if isinstance(value, str) else value
    if not isinstance(text, str) or not text or len(text) > MAX_TEXT:
        raise bad_row(name, value, f"text of 1 to {MAX_TEXT} characters")
    if not is_storable(text):
        raise bad_row(name, value, "text without null characters and lone surrogates")
    return text


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
        name: The field.
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
    try:
        check_storable(attributes)
    except BadInputError as error:
        raise BadInputError(DeadLetterCode.BAD_ROW, error.message) from None
    level: list[Any] = [attributes]
    while level:
        parts = [part for value in level for part in (value.values() if isinstance(value, dict) else value)]
        if any(isinstance(part, float) and not math.isfinite(part) for part in parts):
            raise bad_row("attributes", "NaN or infinity", "finite numbers")
        level = [part for part in parts if isinstance(part, dict | list)]


def _is_harmless(value: object) -> bool:
    """Returns quickly whether a value is of a common kind that can be stored unchanged."""
    return type(value) is int or (type(value) is str and value.isascii() and "\x00" not in value)
