"""Reads what is typed into the search box: `label:truck source:gate after:2026-11-20 "wet road"`.

`filter:value` is one of the filters of the review page; every other word has to stand in a name, label, attribute or
reason. Quotes hold a value with spaces together, and keep a word with a colon from being a filter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from pydantic import ValidationError

from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import parse_day
from imgpipeline.web.viewer.queries import FrameQuery

_PART = re.compile(r'(?:(?P<name>[a-z_]+):)?(?:"(?P<quoted>[^"]*)"?|(?P<plain>\S+))')
_SAME = ("label", "source", "zone", "track", "object", "event", "model", "status", "hour", "day")
FILTERS: Mapping[str, str] = {
    "label": "frames in which this label was found",
    "source": "frames of this source",
    "after": "from this day on",
    "before": "before this day",
    "day": "on this day",
    "hour": "in this hour of the day, 0 to 23",
    "min": "with a detection of at least this confidence, 0 to 1",
    "status": "processed or gated",
    "zone": "with a detection in this zone",
    "track": "with a detection of this track",
    "object": "with a detection of this object",
    "event": "that show this event",
    "model": "that this model looked at",
}
"""Each filter of the search box, and what it finds."""


@dataclass(frozen=True, slots=True)
class Search:
    """What was asked for."""

    filters: FrameQuery
    """The filters, as the review page knows them. Words are its `text`."""
    words: tuple[str, ...]
    """Texts that have to be found, in any case."""


def parse_search(text: str, days: tuple[date, ...], timezone: str | None = None) -> Search:
    """Reads a search.

    Args:
        text: As it was typed.
        days: Days with data, sorted: a search that names no day is for all of them.
        timezone: Whose days these are, for the filters; None: as for a page that names no zone.

    Raises:
        UsageError: A filter has a value that it cannot have, or is given twice.
    """
    given: dict[str, str] = {}
    words: list[str] = []
    for part in _PART.finditer(text.replace("\0", " ")):
        name, value = part["name"], part["plain"] if part["quoted"] is None else part["quoted"]
        if name is not None and name not in FILTERS:
            value = part[0]
        if name not in FILTERS:
            word = value.replace('"', "")
            words += [word] if word.strip() else []
        elif name in given:
            raise UsageError(f"{name}: is given twice.", next_step="give it once")
        else:
            given[name] = value
    try:
        filters = FrameQuery.model_validate({**_fields(given, words, days), "timezone": timezone})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{first['loc'][0] if first['loc'] else 'search'}: {first['msg']}.",
                         next_step="the search page lists the filters") from None  # fmt: skip
    return Search(filters, tuple(words))


def _fields(given: Mapping[str, str], words: list[str], days: tuple[date, ...]) -> dict[str, object]:
    fields: dict[str, object] = {name: given[name] for name in _SAME if name in given}
    if words:
        fields["text"] = " ".join(word if word.split() == [word] else f'"{word}"' for word in words)
    if "min" in given:
        fields["min_confidence"] = given["min"]
    if "after" in given:
        fields["from"] = parse_day(given["after"], "after")
    if "before" in given:
        before = parse_day(given["before"], "before")
        if before == date.min:
            raise UsageError(f"before: there is no day before {before}.", next_step="give a later day")
        fields["to"] = before - timedelta(days=1)
    if days and not fields.keys() & {"day", "from", "to"}:
        fields["from"] = days[0]
    return fields
