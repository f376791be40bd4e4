"""Reads and validates the fields of JSON messages. Errors name the field."""

import base64
import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, NoReturn

from imgpipeline.contracts.times import parse_time
from imgpipeline.errors import BadInputError, DeadLetterCode

MAX_TEXT = 1_024
"""Longest source or path, in characters."""
_MAX_DEPTH = 32
"""Deepest nesting of attributes."""


def load_object(value: bytes) -> dict[str, Any]:
    """Parses a record's value as a JSON object.

    Raises:
        BadInputError: It is not a JSON object, or contains NaN or infinity, which could not be written back.
    """

    def refuse(constant: str) -> NoReturn:
        raise invalid_field("value", constant, "JSON without NaN and Infinity")

    def finite(text: str) -> float:
        number = float(text)  # 1e999 is valid JSON, but cannot be written back as JSON
        return number if math.isfinite(number) else refuse(text)

    try:
        data = json.loads(value.decode("utf-8"), parse_constant=refuse, parse_float=finite)
    except UnicodeDecodeError as error:
        raise invalid_field("value", f"a byte that is not UTF-8 at position {error.start}", "UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise invalid_field("value", f"no JSON ({error})", "a JSON object") from None
    if not isinstance(data, dict):
        raise invalid_field("value", f"a JSON {type(data).__name__}", "a JSON object")
    return data


def read_attributes(data: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """Returns the `attributes` of a message, including its unknown fields.

    Raises:
        BadInputError: `attributes` is not an object, or a value cannot be stored.
    """
    given = data.get("attributes")
    if given is not None and not isinstance(given, dict):
        raise invalid_field("attributes", f"a JSON {type(given).__name__}", "a JSON object")
    others = {name: value for name, value in data.items() if name not in known}
    merged = {**others, **(given or {})}
    check_storable(merged)
    return merged


def invalid_field(name: str, found: object, expected: str) -> BadInputError:
    """Returns the error for an invalid field."""
    text = str(found)
    text = text if len(text) <= 120 else text[:117] + "..."
    return BadInputError(DeadLetterCode.INVALID_MESSAGE, f"{name}: got {text}, expected {expected}.")


def checked_text(name: str, value: object) -> str:
    """Returns a value unchanged if it is storable text of 1 to `MAX_TEXT` characters.

    Raises:
        BadInputError: The value is something else; the message names the field.
    """
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT:
        raise invalid_field(name, shown(value), f"text of 1 to {MAX_TEXT} characters")
    if not is_storable(value):
        raise invalid_field(name, shown(value), "text without null characters and lone surrogates")
    return value


def is_storable(text: str) -> bool:
    """Returns whether text survives UTF-8, JSON, Parquet and SQL unchanged."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def shown(value: object) -> str:
    """Returns a value for an error message. For nested values only the type, because their text may be huge."""
    return f"a JSON {type(value).__name__}" if isinstance(value, dict | list) else repr(value)


def as_text(value: object) -> object:
    """Returns a whole number as text, because a number may name a video, frame or camera; other values unchanged."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_count(data: Mapping[str, Any], name: str) -> int | None:
    """Returns a whole number from 0 to 2**63 - 1, or None if the field is missing.

    Raises:
        BadInputError: The value is something else; the message names the field.
    """
    value = data.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value < 2**63:
        raise invalid_field(name, shown(value), "a whole number from 0")
    return int(value)


def read_image(data: Mapping[str, Any]) -> bytes:
    """Returns the `image` of a message, decoded from base64.

    Raises:
        BadInputError: There is no image, or it is not base64.
    """
    encoded = data.get("image")
    try:
        image = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else b""
    except ValueError:
        image = b""
    if not image:
        raise invalid_field("image", f"a JSON {type(encoded).__name__}", "an encoded image in base64")
    return image


def read_sha256(data: Mapping[str, Any]) -> str | None:
    """Returns 64 lower-case hexadecimal digits, or None if the field is missing.

    Raises:
        BadInputError: The value is something else.
    """
    value = data.get("sha256")
    if value is None:
        return None
    text = checked_text("sha256", value).lower()
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise invalid_field("sha256", shown(value), "64 hexadecimal digits")
    return text


def read_timestamp(
    data: Mapping[str, Any], names: Sequence[str] = ("timestamp",), zone: tzinfo = UTC
) -> datetime | None:
    """Returns the announced time, or None if the message has none.

    Args:
        data: The message.
        names: The fields that may hold the time; the first one present counts.
        zone: Time zone of text without an offset.

    Raises:
        BadInputError: The value is not a time.
    """
    name = next((name for name in names if data.get(name) not in (None, "")), None)
    if name is None:
        return None
    value = data[name]
    try:
        if not isinstance(value, str | int | float):
            raise ValueError("neither text nor a number")
        return parse_time(value, zone)
    except (ValueError, OverflowError):
        raise invalid_field(name, shown(value), "an RFC 3339 time such as 2026-01-09T12:00:00Z") from None


def check_storable(attributes: Mapping[str, Any]) -> None:
    """Rejects values that later readers cannot handle: deep nesting, null characters, lone surrogates.

    Raises:
        BadInputError: `INVALID_MESSAGE`, naming the attributes.
    """
    level: list[Any] = [attributes]
    for _ in range(_MAX_DEPTH):
        parts = [part for value in level for part in _parts(value)]
        level = [part for part in parts if isinstance(part, dict | list)]
        if not all(is_storable(part) for part in parts if isinstance(part, str)):
            raise invalid_field("attributes", "a null character or lone surrogate", "text that can be stored")
        if not level:
            return
    raise invalid_field("attributes", "deeper nesting", f"at most {_MAX_DEPTH} levels")


def _parts(value: Any) -> Iterable[Any]:
    return (*value.keys(), *value.values()) if isinstance(value, dict) else value
