"""Two models on one day: how far they agree by label, and the frames with the boxes of both."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.redetect.disagreements import ComparedDay, ComparedFrames, compare_day, find_disagreements
from imgpipeline.redetect.sides import sides_of, versions_of
from imgpipeline.web.viewer.answers import day_counts, known_day, shown_day
from imgpipeline.web.viewer.queries import ComparisonQuery, read_query
from imgpipeline.web.viewer.rendering import Renderer
from imgpipeline.web.viewer.responses import answer_json
from imgpipeline.web.viewer.site import ViewedSite

_FRAMES = """
SELECT frame_id, source, "timestamp", image_width, image_height FROM frames
WHERE day = $day AND list_contains($ids, frame_id)
"""


@dataclass(slots=True)
class _LastCompared:
    """The day that was compared last: pages and cells of it follow each other."""

    key: Hashable = None
    day: ComparedDay | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, site: ViewedSite, day: date, a: str, b: str) -> ComparedDay:
        versions = versions_of(site.store, day, (a, b))
        key = (day, a, b, *(tuple(versions[name]) for name in (a, b)))
        with self.lock:
            if self.day is None or self.key != key:
                self.day = None  # before the next one takes memory
                self.day, self.key = compare_day(site.store, day, a, b, memory=site.settings.duckdb_memory), key
            return self.day


def comparison_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes.

    Args:
        site: What they read.
        renderer: Makes the page.
    """
    router = APIRouter(tags=["viewer"])
    last = _LastCompared()

    @router.get("/comparisons", include_in_schema=False, response_class=HTMLResponse)
    def page(request: Request) -> Response:
        query = read_query(ComparisonQuery, request)
        with site.lake.reading() as lake:
            day = shown_day(lake, query.day)
            if day is None:
                return renderer.page("empty.html")
            days = site.lake.remembered(lake, "days", lambda: day_counts(lake))
            models = sides_of(site.store, day)
            if len(models) == 1 and not (query.a or query.b):
                return renderer.page("comparisons.html", day=day, days=days, compared=None)
            shown, compared, found = _compare(site, last, day, models, query)
            frames = _rows_of(lake, day, found)
        return renderer.page("comparisons.html", day=day, days=days, models=models, compared=compared, found=found,
                             frames=frames, query=shown, next=_next(query, found))  # fmt: skip

    @router.get("/api/v1/comparisons")
    def api(request: Request, query: Annotated[ComparisonQuery, Query()]) -> Response:
        """Two models on one day: their agreement by label, and frames with the boxes of both, most different first."""
        with site.lake.reading() as lake:
            day = known_day(lake, query.day)
        models = sides_of(site.store, day)
        shown, compared, found = _compare(site, last, day, models, query)
        labels = [{n: getattr(one, n) for n in one.__slots__ if n != "examples"} for one in compared.labels]
        frames = [{n: getattr(one, n) for n in one.__slots__} for one in found.frames]
        return answer_json(request, {
            "day": day, "models": models, "a": shown.a, "b": shown.b, "labels": labels, "matching": found.matching,
            "boxes": found.boxes, "next": _next(query, found), "frames": frames,
        })  # fmt: skip

    return router


def _compare(
    site: ViewedSite, last: _LastCompared, day: date, models: list[str], query: ComparisonQuery
) -> tuple[ComparisonQuery, ComparedDay, ComparedFrames]:
    """Returns the query with its models, the compared day, and the frames that are asked for."""
    a, b = _chosen(models, day, query)
    compared = last.read(site, day, a, b)
    found = find_disagreements(
        compared, label=query.label, counted=query.counted, after=query.after, limit=query.limit,
        memory=site.settings.duckdb_memory,
    )  # fmt: skip
    return query.model_copy(update={"day": day, "a": a, "b": b}), compared, found


def _chosen(models: list[str], day: date, query: ComparisonQuery) -> tuple[str, str]:
    a = query.a or models[0]
    b = query.b or next((one for one in models if one != a), None)
    if b is None or a == b or not {a, b} <= set(models):
        raise ConfigurationError(
            f"{a} and {b or 'another model'} cannot be compared on {day}; there are {', '.join(models)}.",
            next_step=f"imgpipeline redetect --model NAME --day {day} looks at the day with another model",
        )
    return a, b


def _next(query: ComparisonQuery, found: ComparedFrames) -> int | None:
    behind = query.after + query.limit
    return behind if behind < found.matching else None


def _rows_of(lake: LakeSession, day: date, found: ComparedFrames) -> dict[str, dict[str, Any]]:
    table = lake.arrow(_FRAMES, {"day": day, "ids": [one.frame_id for one in found.frames]})
    return {row["frame_id"]: row for row in table.to_pylist()}
