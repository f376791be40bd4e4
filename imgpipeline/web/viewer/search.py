"""Search: one box for frames, events, dead letters and notices, as a page and in the API.

It asks the session that all pages share, so its numbers are those of the review page, and it needs no index of its own
(docs/decisions/0014-search-without-an-index.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field

from imgpipeline.contracts.text import plain
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.wanted_frames import holds_text, rows_of_days
from imgpipeline.lake.sessions.local_time import DAY_OF_LETTER, DAY_OF_NOTICE, DAY_OF_ROW
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.web.viewer.answers import FramePage, days_shown, page_of_frames
from imgpipeline.web.viewer.queries import PageQuery, Zoned, read_query
from imgpipeline.web.viewer.rendering import Renderer
from imgpipeline.web.viewer.responses import answer_json
from imgpipeline.web.viewer.search_text import FILTERS, Search, parse_search
from imgpipeline.web.viewer.site import ViewedSite

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
"""What is searched besides frames: the columns shown, those that hold text, and the order."""
_DAYS = {"events": DAY_OF_ROW, "dead_letters": DAY_OF_LETTER, "notices": DAY_OF_NOTICE}


class SearchQuery(Zoned):
    """A search."""

    q: str = Field(
        "", max_length=500, description="Words and filters: `label:truck source:gate after:2026-11-20 rain`."
    )


class SearchApiQuery(SearchQuery):
    """A search of the API."""

    limit: int = Field(100, ge=1, le=1000, description="At most this many frames.")


@dataclass(frozen=True, slots=True)
class Others:
    """Rows of another table than `frames` that match."""

    rows: Sequence[dict[str, Any]]
    """The latest first, with their `day`; at most 50."""
    matching: int
    """How many there are."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found."""

    search: Search
    """What was asked for."""
    frames: FramePage
    """The latest frames."""
    others: dict[str, Others]
    """By table. Empty where a filter is for frames alone, such as `zone`."""


def search_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes.

    Args:
        site: What they read.
        renderer: Makes the page.
    """
    router = APIRouter(tags=["viewer"])

    @router.get("/search", include_in_schema=False, response_class=HTMLResponse)
    def page(request: Request) -> Response:
        query = read_query(SearchQuery, request)
        zone = site.page_zone(query)
        with site.lake.reading(zone) as lake:
            if not lake.days:
                return renderer.page("empty.html")
            found = _find(site, lake, query, _SHOWN_FRAMES) if query.q.strip() else None
        return renderer.page("search.html", q=query.q, found=found, known=FILTERS, zone=zone, query=query)

    @router.get("/api/v1/search")
    def api(request: Request, query: Annotated[SearchApiQuery, Query()]) -> Response:
        """Frames, events, dead letters and notices that match, the latest first.

        `filters` are parameters of `/frames`, which lists all of the frames.
        """
        if not query.q.strip():
            raise UsageError("q is empty.", next_step="give words or filters, such as label:car")
        with site.lake.reading(query.timezone) as lake:
            found = _find(site, lake, query, query.limit)
        others = {name: {"matching": one.matching, "rows": [plain(row) for row in one.rows]}
                  for name, one in found.others.items()}  # fmt: skip
        filters = found.search.filters.model_dump(mode="json", by_alias=True, exclude_none=True)
        frames = {"matching": found.frames.matching, "detections": found.frames.detections,
                  "frames": found.frames.frames, "older": found.frames.older}  # fmt: skip
        return answer_json(request, {"filters": filters, "frames": frames, **others})

    return router


def _find(site: ViewedSite, lake: LakeSession, asked: SearchQuery, limit: int) -> Found:
    search = parse_search(asked.q, lake.days, asked.timezone)
    query = PageQuery.model_validate(search.filters.model_dump(by_alias=True))
    days = days_shown(lake, search.filters)
    others = {name: _rows(lake, name, search, days) for name in _OTHERS}
    return Found(search, page_of_frames(site, lake, query, limit, is_compared=False), others)


def _rows(lake: LakeSession, table: str, search: Search, days: Sequence[date]) -> Others:
    columns, named, order = _OTHERS[table]
    filters = search.filters.model_dump(exclude_none=True, exclude={"day", "from_day", "to_day", "text", "timezone"})
    if filters.keys() - set(_FACETS[table]) or not (filters or search.words):
        return Others((), 0)
    parts = [rows_of_days(Span(days[0], days[-1]), lake.local, _DAYS[table])]
    parts += [f"{name} = {quoted(value)}" for name, value in filters.items()]
    parts += [f"({holds_text(named, word)})" for word in search.words]
    chosen = f"FROM {table} WHERE {' AND '.join(parts)}"
    answer = lake.query(f"SELECT day, {columns} {chosen} ORDER BY {order} LIMIT {_MOST_OTHERS}")
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    matching: int = lake.query(f"SELECT count(*) {chosen}").rows[0][0] if rows else 0
    return Others(rows, matching)
