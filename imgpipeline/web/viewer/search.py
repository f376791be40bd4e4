"""Searches frames, events, dead letters and notices by words and filters: `label:truck after:2026-11-20 "wet road"`.

It queries the session that all pages share, so its numbers are those of the review page, and it needs no index
(docs/decisions/0014-search-without-an-index.md).
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from fastapi import APIRouter
from pydantic import Field, ValidationError

from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import Span, parse_day
from imgpipeline.lake.query.wanted_frames import holds_text, rows_of_days
from imgpipeline.lake.sessions.local_time import DAY_OF_LETTER, DAY_OF_NOTICE, DAY_OF_ROW
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.web.viewer.answers import FramePage, days_shown, known_day, page_of_frames
from imgpipeline.web.viewer.queries import FrameQuery, PageQuery, Zoned, words_of, wrong_parameter
from imgpipeline.web.viewer.site import ViewedSite
from imgpipeline.web.viewer.views import Asked, View, add_views

_PART = re.compile(r'(?:(?P<name>[A-Za-z_]+):(?!//))?(?:"(?P<quoted>[^"]*)"?|(?P<plain>\S+))')
_SAME = ("label", "source", "zone", "track", "object", "event", "model", "status", "hour", "day")
FILTERS: Mapping[str, str] = {
    "label": "with a detection of this label",
    "source": "from this source",
    "after": "on this day or later",
    "before": "before this day",
    "day": "on this day",
    "hour": "in this hour of the day, 0 to 23",
    "min": "with a detection of at least this confidence, 0 to 1",
    "status": "with this status: processed or gated",
    "zone": "with a detection in this zone",
    "track": "of this track",
    "object": "of this object",
    "event": "that show this event",
    "model": "processed by this model",
}
"""The filters of the search box, and which frames each of them finds."""
_SOURCES = "SELECT DISTINCT source FROM frames WHERE source IS NOT NULL ORDER BY source"
_SHOWN_FRAMES = 12
_MOST_OTHERS = 50
_FACETS = {"events": ("source", "label"), "dead_letters": ("source",), "notices": ("source",)}
_OTHERS = {
    "events": (
        'event_id, rule, kind, source, "timestamp", place, label, reason, frame_ids',
        ("rule", "kind", "source", "place", "label", "reason"),
        '"timestamp" DESC, event_id',
    ),
    "dead_letters": (
        'topic, partition, kafka_offset, code, source, image_path, message, "timestamp"',
        ("code", "source", "image_path", "message"),
        '"timestamp" DESC NULLS LAST, topic, partition, kafka_offset',
    ),
    "notices": (
        "kind, source, session, reason, interval_start, interval_end",
        ("kind", "source", "reason", "CAST(attributes AS VARCHAR)"),
        "interval_start DESC, source, kafka_offset",
    ),
}
"""Tables that are searched besides frames: columns to show, columns with text, and order."""
_DAYS = {"events": DAY_OF_ROW, "dead_letters": DAY_OF_LETTER, "notices": DAY_OF_NOTICE}


class SearchQuery(Zoned):
    """A search."""

    q: str = Field(
        "", max_length=500, description="Words and filters, such as `label:truck source:gate after:2026-11-20 rain`."
    )


class SearchApiQuery(SearchQuery):
    """A search in the API."""

    limit: int = Field(100, ge=1, le=1000, description="Maximum number of frames.")


@dataclass(frozen=True, slots=True)
class Found:
    """Result of a search."""

    filters: FrameQuery
    """The same search as filters of the review page, with the words as `text`."""
    frames: FramePage
    others: Mapping[str, Mapping[str, Any]]
    """By table: at most 50 `rows`, the latest first, and how many are `matching`; none if a filter only applies to
    frames, such as `zone`."""
    suggestion: str | None
    """The same search with similar names, if nothing matches and a label or source does not exist."""


def _find(asked: Asked) -> Found | None:
    """Returns the result; None without words or filters."""
    site, lake, given = asked.site, asked.lake, asked.query
    if not given.q.strip():
        known_day(lake, None)
        return None
    filters = parse_search(given.q, lake.days, given.timezone)
    query = PageQuery.model_validate(filters.model_dump(by_alias=True))
    days = days_shown(lake, filters)
    others = {name: _rows(lake, name, filters, days) for name in _OTHERS}
    frames = page_of_frames(site, lake, query, _SHOWN_FRAMES if asked.is_page else given.limit, is_compared=False)
    is_empty = not frames.matching and not any(one["matching"] for one in others.values())
    return Found(filters, frames, others, _suggest(site, lake, given.q, filters) if is_empty else None)


def _document(_asked: Asked, found: Found | None) -> Mapping[str, Any]:
    if found is None:
        raise UsageError("q is empty.", next_step="give words or filters, such as label:car")
    frames = {"matching": found.frames.matching, "detections": found.frames.detections,
              "frames": found.frames.frames, "older": found.frames.older}  # fmt: skip
    filters = found.filters.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"filters": filters, "frames": frames, **found.others}


def _suggest(site: ViewedSite, lake: LakeSession, asked: str, filters: FrameQuery) -> str | None:
    sources = [source for (source,) in lake.query(_SOURCES).rows]
    better = asked
    for name, known in (("label", site.lake.state.labels), ("source", sources)):
        given = getattr(filters, name) or ""
        for similar in difflib.get_close_matches(given, known, n=1):
            for old in (f'{name}:"{given}"', f"{name}:{given}"):
                better = better.replace(old, f"{name}:{_as_one(similar)}")
    return None if better == asked else better


def _rows(lake: LakeSession, table: str, search: FrameQuery, days: Sequence[date]) -> Mapping[str, Any]:
    columns, named, order = _OTHERS[table]
    filters = search.model_dump(exclude_none=True, exclude={"day", "from_day", "to_day", "text", "timezone"})
    words = words_of(search.text or "")
    if filters.keys() - set(_FACETS[table]) or not (filters or words):
        return {"matching": 0, "rows": []}
    parts = [rows_of_days(Span(days[0], days[-1]), lake.local, _DAYS[table])]
    parts += [f"{name} = {quoted(value)}" for name, value in filters.items()]
    parts += [f"({holds_text(named, word)})" for word in words]
    chosen = f"FROM {table} WHERE {' AND '.join(parts)}"
    answer = lake.query(f"SELECT day, {columns} {chosen} ORDER BY {order} LIMIT {_MOST_OTHERS}")
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    matching: int = lake.query(f"SELECT count(*) {chosen}").rows[0][0] if rows else 0
    return {"matching": matching, "rows": rows}


def parse_search(text: str, days: tuple[date, ...], timezone: str | None = None) -> FrameQuery:
    """Parses the text of the search box; the words become `text`.

    `filter:value` is one of `FILTERS`; every other word must occur in a name, label, attribute or reason. Quotes keep a
    value with spaces together, and make a word with a colon a plain word.

    Args:
        days: Days with data, sorted; a search without a day covers all of them.
        timezone: Time zone of the days; None: the default of the page.

    Raises:
        UsageError: A filter is unknown or given twice, or its value is wrong.
    """
    given: dict[str, str] = {}
    words: list[str] = []
    for part in _PART.finditer(text.replace("\0", " ")):
        name, value = (part["name"] or "").lower(), part["plain"] if part["quoted"] is None else part["quoted"]
        if not name:
            word = value.replace('"', "")
            words += [word] if word.strip() else []
        elif name not in FILTERS:
            text = part[0].replace('"', "")
            raise UsageError(
                f"There is no filter {name}.",
                next_step=f'use one of {", ".join(FILTERS)}, or quote it to search for the text: "{text}"',
            )
        elif name in given:
            raise UsageError(f"{name}: is given twice.", next_step="give it once")
        else:
            given[name] = value
    try:
        return FrameQuery.model_validate({**_fields(given, words, days), "timezone": timezone})
    except ValidationError as error:
        raise wrong_parameter(error.errors(), what="search", next_step="the search page lists the filters") from None


def _as_one(word: str) -> str:
    return word if word.split() == [word] else f'"{word}"'


def _fields(given: Mapping[str, str], words: list[str], days: tuple[date, ...]) -> dict[str, object]:
    fields: dict[str, object] = {name: given[name] for name in _SAME if name in given}
    if words:
        fields["text"] = " ".join(map(_as_one, words))
    if "min" in given:
        fields["min_confidence"] = given["min"]
    if "after" in given:
        fields["from"] = parse_day(given["after"], "after")
    if "before" in given:
        before = parse_day(given["before"], "before")
        if before == date.min:
            raise UsageError(f"before: there is no day before {before}.", next_step="give a later day")
        fields["to"] = before - timedelta(days=1)
    if "day" in fields and fields.keys() & {"from", "to"}:
        raise UsageError("day: cannot be combined with after or before.", next_step="give one of them")
    if days and not fields.keys() & {"day", "from", "to"}:
        fields["from"] = days[0]
    return fields


router = APIRouter(tags=["viewer"])
add_views(router, View(
    "/search", SearchQuery, _find,
    lambda asked, found: {"q": asked.query.q, "found": found, "known": FILTERS}, _document,
    "Finds frames, events, dead letters and notices, the latest first. `filters` are parameters of `/frames`.",
    api_query=SearchApiQuery,
))  # fmt: skip
