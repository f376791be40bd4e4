"""Compares two models on one day: their agreement by label, and frames with the boxes of both."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field

from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.redetect.pairs import (
    ComparedDay,
    ComparedFrames,
    Counted,
    compare_day,
    find_disagreements,
    sides_of,
    versions_of,
)
from imgpipeline.web.viewer.answers import days_with_counts, known_day
from imgpipeline.web.viewer.queries import PAGE_FRAMES, DayQuery, Name, next_after, read_query
from imgpipeline.web.viewer.responses import Renderer, answer_json, fields_of
from imgpipeline.web.viewer.site import ViewedSite

_FRAMES = """
SELECT frame_id, source, "timestamp", image_width, image_height FROM frames
WHERE day = $day AND list_contains($ids, frame_id)
"""


class ComparisonQuery(DayQuery):
    """Two models, and a page of the frames in which they found something."""

    a: Name | None = Field(None, description="Model A: `live`, or a redetection such as `demo@0.3`. Default: `live`.")
    b: Name | None = Field(None, description="Model B. Default: the first redetection of the day.")
    label: Name | None = Field(None, description="Only count boxes of this label; frames still have all boxes.")
    counted: Counted = Field(Counted.DIFFERING, description="Boxes that a frame must have to be listed.")
    after: int = Field(0, ge=0, lt=10**9, description="Number of frames to skip: `next` of the previous page.")
    limit: int = Field(PAGE_FRAMES, ge=1, le=1000, description="Maximum number of frames.")


@dataclass(slots=True)
class _LastCompared:
    """Keeps the last comparison, because a reader opens several of its pages in a row."""

    key: Hashable = None
    day: ComparedDay | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, site: ViewedSite, day: date, a: str, b: str) -> ComparedDay:
        versions = versions_of(site.store, day, (a, b))
        key = (day, a, b, *(tuple(versions[name]) for name in (a, b)))
        with self.lock:
            if self.day is None or self.key != key:
                self.day = None  # frees its memory first
                self.day, self.key = compare_day(site.store, day, a, b, memory=site.settings.duckdb_memory), key
            return self.day


def comparison_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(tags=["viewer"])
    last = _LastCompared()

    @router.get("/comparisons", include_in_schema=False, response_class=HTMLResponse)
    def comparison_page(request: Request) -> Response:
        query = read_query(ComparisonQuery, request)
        with site.lake.reading() as lake:
            day = known_day(lake, query.day)
            days = days_with_counts(site, lake)
            models = sides_of(site.store, day)
            if len(models) == 1 and not (query.a or query.b):
                return renderer.page("comparisons.html", day=day, days=days, compared=None)
            shown, compared, found = _compare(site, last, day, models, query)
            frames = _rows_of(lake, day, found)
        return renderer.page("comparisons.html", day=day, days=days, models=models, compared=compared, found=found,
                             frames=frames, query=shown, next=_next(query, found))  # fmt: skip

    @router.get("/api/v1/comparisons")
    def comparisons(request: Request, query: Annotated[ComparisonQuery, Query()]) -> Response:
        """Compares two models on a day: agreement by label, and frames with the boxes of both, most different first."""
        with site.lake.reading() as lake:
            day = known_day(lake, query.day)
        models = sides_of(site.store, day)
        shown, compared, found = _compare(site, last, day, models, query)
        labels = [fields_of(one, without=("examples",)) for one in compared.labels]
        frames = [fields_of(one) for one in found.frames]
        return answer_json(request, {
            "day": day, "models": models, "a": shown.a, "b": shown.b, "labels": labels, "matching": found.matching,
            "boxes": found.boxes, "next": _next(query, found), "frames": frames,
        })  # fmt: skip

    return router


def _compare(
    site: ViewedSite, last: _LastCompared, day: date, models: list[str], query: ComparisonQuery
) -> tuple[ComparisonQuery, ComparedDay, ComparedFrames]:
    """Returns the query with its models filled in, the comparison, and the requested frames."""
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
            f"{a} and {b or 'another model'} cannot be compared on {day}; the day has {', '.join(models)}.",
            next_step=f"imgpipeline redetect --model NAME --day {day} processes the day with another model",
        )
    return a, b


def _next(query: ComparisonQuery, found: ComparedFrames) -> int | None:
    return next_after(query.after, query.limit, found.matching)


def _rows_of(lake: LakeSession, day: date, found: ComparedFrames) -> dict[str, dict[str, Any]]:
    table = lake.arrow(_FRAMES, {"day": day, "ids": [one.frame_id for one in found.frames]})
    return {row["frame_id"]: row for row in table.to_pylist()}
