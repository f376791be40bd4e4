"""Formats numbers, times and untrusted text for reports and pages.

Untrusted text (labels, sources, paths, messages) cannot control a page or a terminal: control characters and direction
marks are escaped here. Templates and charts escape markup.
"""

import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, tzinfo
from typing import Any

DASH = "\N{EN DASH}"
"""Separates the ends of a span, and stands for a missing value."""
_NO_INTERVAL = {
    "not_enough": "not enough counted yet", "not_covered": "frames came after the plan", "out_of_date": "out of date",
}  # fmt: skip
_BYTES = ((2**40, " TB"), (2**30, " GB"), (2**20, " MB"), (2**10, " kB"))
_ROUNDS_UP = 0.9995
"""Share of a unit from which the smaller unit would be shown with four digits."""
_LARGE = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


def visible(text: str, most: int | None = None) -> str:
    """Returns untrusted text, even with lone surrogates, in printable form.

    Text longer than `most` characters ends with an ellipsis.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def shell_word(text: str) -> str:
    """Quotes text as one word of a Bash command; text that cannot be printed uses `$'…'`."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(_shell_escape(c) for c in text)
    return f"$'{escaped}'"


def _shell_escape(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    # Bash reads `\x80` as one byte, so the bytes of UTF-8 are written.
    escaped = "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "replace"))
    return character if character.isprintable() else escaped


def interval(found: Mapping[str, Any]) -> str:
    """Returns an interval of `lake.query.accuracy` as text, or why there is none."""
    if found["low"] is None:
        return _NO_INTERVAL.get(found["verdict"], DASH)
    return f"{found['low']:,.0f} to {found['high']:,.0f}"


def number(value: float) -> str:
    """Returns a number with thousands separators: `12,345`."""
    return f"{value:,.0f}"


def short_number(value: float) -> str:
    """Returns a number in at most five characters: `873`, `12k`, `1.2M`."""
    return _in_units(value, _LARGE) or f"{value:g}"


def size(size_bytes: float) -> str:
    """Returns a size with its unit (powers of 1024): `64 kB`."""
    return _in_units(size_bytes, _BYTES) or f"{size_bytes:.0f} B"


def _in_units(value: float, units: Iterable[tuple[int, str]]) -> str | None:
    """Returns a value, after rounding, in the largest unit that it reaches, with one decimal below 10; None without."""
    for unit, name in units:
        if value >= unit * _ROUNDS_UP:
            scaled = value / unit
            return (f"{scaled:.1f}".removesuffix(".0") if scaled < 10 else f"{scaled:,.0f}") + name
    return None


def duration(seconds: float) -> str:
    """Returns a time span in at most two units: `3 h 20 min`, `0.25 s`."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def stay(seconds: float | None) -> str:
    """Returns how long an object stayed; a dash for None."""
    return DASH if seconds is None else duration(seconds)


def share(part: float, whole: float) -> str:
    """Returns a share in percent. It is `0%` only for nothing, and `100%` only for everything."""
    if not whole:
        return DASH
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    return f"{percent:.1f}%".replace(".0%", "%")


def clock(time: datetime | None, zone: tzinfo = UTC) -> str:
    """Returns the time of day: `07:05:09`; a dash for None."""
    return time.astimezone(zone).strftime("%H:%M:%S") if time else DASH


def moment(time: datetime, zone: tzinfo = UTC) -> str:
    """Returns date and time: `2026-01-09 07:05:09`."""
    return time.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def long_day(day: date) -> str:
    """Returns a day in words: `Friday, 9 January 2026`."""
    return f"{_WEEKDAYS[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year}"


def long_month(day: date) -> str:
    """Returns the month of a day in words: `January 2026`."""
    return f"{_MONTHS[day.month - 1]} {day.year}"


def hour_span(name: str) -> str:
    """Returns the span of an hour by its name: `07` is 07 to 08, `02 +01:00` is 02 to 03 +01:00."""
    return f"{name[:2]}{DASH}{int(name[:2]) + 1:02d}{name[2:]}"


# strftime depends on the machine's locale; pages are the same everywhere.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
