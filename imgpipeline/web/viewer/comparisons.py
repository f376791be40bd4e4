"""Compares two models on one day: their agreement by label, and frames with the boxes of both."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from fastapi import APIRouter
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
from imgpipeline.web.viewer.queries import PAGE_FRAMES, DayQuery, Name, next_after
from imgpipeline.web.viewer.responses import fields_of
from imgpipeline.web.viewer.site import ViewedSite
from imgpipeline.web.viewer.views import Asked, View, add_views

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


@dataclass(frozen=True, slots=True)
class _Found:
    """A comparison, and a page of its frames."""

    models: Sequence[str]
    query: ComparisonQuery
    """The query with its day and models filled in."""
    compared: ComparedDay
    frames: ComparedFrames


def _compare(asked: Asked) -> _Found | None:
    """Returns the comparison; None on a page of a day with one model, which then says how to get another."""
    site, query, day = asked.site, asked.query, asked.day
    models = sides_of(site.store, day)
    if asked.is_page and len(models) == 1 and not (query.a or query.b):
        return None
    a, b = _chosen(models, day, query)
    versions = versions_of(site.store, day, (a, b))
    compared = _compared(site, day, a, b, tuple(tuple(versions[name]) for name in (a, b)))
    frames = find_disagreements(
        compared, label=query.label, counted=query.counted, after=query.after, limit=query.limit,
        memory=site.settings.duckdb_memory,
    )  # fmt: skip
    return _Found(models, query.model_copy(update={"day": day, "a": a, "b": b}), compared, frames)


@lru_cache(maxsize=1)  # a reader opens several pages of a comparison in a row
def _compared(site: ViewedSite, day: date, a: str, b: str, _versions: Hashable) -> ComparedDay:
    return compare_day(site.store, day, a, b, memory=site.settings.duckdb_memory)


def _page(asked: Asked, found: _Found | None) -> Mapping[str, Any]:
    of_day = {"day": asked.day, "days": asked.days}
    if found is None:
        return {**of_day, "compared": None}
    return {
        **of_day, "models": found.models, "compared": found.compared, "found": found.frames,
        "frames": _rows_of(asked.lake, asked.day, found.frames), "query": found.query, "next": _next(found),
    }  # fmt: skip


def _document(asked: Asked, found: _Found | None) -> Mapping[str, Any]:
    if found is None:
        raise AssertionError("the API always compares two models")
    return {
        "day": asked.day, "models": found.models, "a": found.query.a, "b": found.query.b,
        "labels": found.compared.labels,
        "matching": found.frames.matching, "boxes": found.frames.boxes, "next": _next(found),
        "frames": [fields_of(one) for one in found.frames.frames],
    }  # fmt: skip


def _chosen(models: Sequence[str], day: date, query: ComparisonQuery) -> tuple[str, str]:
    a = query.a or models[0]
    b = query.b or next((one for one in models if one != a), None)
    if b is None or a == b or not {a, b} <= set(models):
        raise ConfigurationError(
            f"{a} and {b or 'another model'} cannot be compared on {day}; the day has {', '.join(models)}.",
            next_step=f"imgpipeline redetect --model NAME --day {day} processes the day with another model",
        )
    return a, b


def _next(found: _Found) -> int | None:
    return next_after(found.query.after, found.query.limit, found.frames.matching)


def _rows_of(lake: LakeSession, day: date, found: ComparedFrames) -> dict[str, dict[str, Any]]:
    table = lake.arrow(_FRAMES, {"day": day, "ids": [one.frame_id for one in found.frames]})
    return {row["frame_id"]: row for row in table.to_pylist()}


router = APIRouter(tags=["viewer"])
add_views(router, View(
    "/comparisons", ComparisonQuery, _compare, _page, _document,
    "Compares two models on a day: agreement by label, and frames with the boxes of both, most different first.",
))  # fmt: skip
