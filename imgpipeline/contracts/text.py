"""Values as text: counted nouns in messages, and the JSON and CSV that commands print and the API returns."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from imgpipeline.contracts.times import format_time

_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Characters that start a formula in a spreadsheet, including their full-width forms."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun: `1 frame`, `12,345 frames`.

    Args:
        number: How many.
        noun: The singular, with its adjectives: `dead letter`.
        plural: The plural, if it is not the singular with an `s`: `entries`.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a header and rows as CSV (RFC 4180): commas, CRLF, quotes where needed.

    NULL is an empty cell, times are RFC 3339, lists and maps are JSON. Text that a spreadsheet would run as a formula
    is prefixed with an apostrophe.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([_csv_cell(name) for name in columns])
    writer.writerows([_csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    cell = plain(value)
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False, allow_nan=False)
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_BEGINS) else cell


def plain(value: Any) -> Any:  # noqa: PLR0911 - one return per type
    """Returns a value in types that strict JSON can hold: times as RFC 3339, NaN and infinity as None.

    A dataclass becomes an object with its fields.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, datetime):
        return format_time(value) if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else str(value)
