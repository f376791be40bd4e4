"""The heat map: where the detections of a source stand, for the filters of the review page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from imgpipeline.lake.query.foot_points import COLUMNS, ROWS, FootPoints, count_foot_points
from imgpipeline.lake.query.frames import list_frames
from imgpipeline.lake.query.summaries import ask_session
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.answers import day_counts, days_shown, shown_day, wanted_frames
from imgpipeline.web.viewer.queries import FrameQuery, read_query
from imgpipeline.web.viewer.rendering import Renderer
from imgpipeline.web.viewer.responses import answer_json
from imgpipeline.web.viewer.site import ViewedSite


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The foot points of one source."""

    query: FrameQuery
    """The filters, with a source."""
    points: FootPoints
    """Counted."""
    frame: Mapping[str, Any] | None
    """The latest frame of the source in those days, to lie under the map; a row of `frames`."""


def heat_map_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes.

    Args:
        site: What they read.
        renderer: Makes the page.
    """
    router = APIRouter(tags=["viewer"])

    @router.get("/heatmap", include_in_schema=False, response_class=HTMLResponse)
    def page(request: Request) -> Response:
        query = read_query(FrameQuery, request)
        zone = site.page_zone(query)
        with site.lake.reading(zone) as lake:
            if shown_day(lake, query.day) is None:
                return renderer.page("empty.html")
            shown = _read(site, lake, query)
            days = days_shown(lake, query)
            sources = [row["source"] for row in _sources(site, lake, days)]
            labels = _labels(site, lake, days)
            known = site.lake.remembered(lake, "days", lambda: day_counts(lake))
        return renderer.page("heatmap.html", shown=shown, filters=shown.query, period=days, days=known, sources=sources,
                             labels=labels, columns=COLUMNS, rows=ROWS, zone=zone)  # fmt: skip

    @router.get("/api/v1/heatmap")
    def api(request: Request, query: Annotated[FrameQuery, Query()]) -> Response:
        """Foot points of the detections of a source, counted in a grid; `cells` are column, row and count."""
        with site.lake.reading(query.timezone) as lake:
            shown = _read(site, lake, query)
        return answer_json(request, {
            "source": shown.query.source, "columns": COLUMNS, "rows": ROWS, "cells": shown.points.cells,
            "detections": shown.points.detections, "without_foot_point": shown.points.without,
        })  # fmt: skip

    return router


def _read(site: ViewedSite, lake: LakeSession, query: FrameQuery) -> HeatMap:
    days = days_shown(lake, query)
    if query.source is None:  # the one with the most frames
        most = max(_sources(site, lake, days), key=lambda row: row["frames"], default=None)
        query = query.model_copy(update={"source": most and most["source"]})
    wanted = wanted_frames(site, lake, query, days)
    newest = list_frames(
        lake, WantedFrames(source=query.source, span=wanted.span, local=wanted.local), 1
    ).table.to_pylist()
    points = site.lake.remembered(lake, ("foot points", wanted), lambda: count_foot_points(lake, wanted))
    return HeatMap(query, points, newest[0] if newest else None)


def _sources(site: ViewedSite, lake: LakeSession, days: Sequence[date]) -> list[dict[str, Any]]:
    def read() -> list[dict[str, Any]]:
        return [row for row in ask_session(lake, "sources", days).table.to_pylist() if row["source"] is not None]

    return site.lake.remembered(lake, ("sources", *days), read)


def _labels(site: ViewedSite, lake: LakeSession, days: Sequence[date]) -> list[str]:
    def read() -> list[str]:
        return [row["label"] for row in ask_session(lake, "label_totals", days).table.to_pylist()]

    return site.lake.remembered(lake, ("labels", *days), read)
