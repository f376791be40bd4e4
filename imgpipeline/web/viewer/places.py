"""Where detections are in the image: counts at zones and lines with their frames, and heat maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field, model_validator

from imgpipeline.errors import ConfigurationError
from imgpipeline.events.configuration import Line, Rules, Zone
from imgpipeline.events.places import Evidence, PlaceCount, PlaceNumber, find_evidence, stored_count
from imgpipeline.lake.query.frames import list_frames
from imgpipeline.lake.query.histograms import COLUMNS, ROWS, FootPoints, count_foot_points
from imgpipeline.lake.query.summaries import ask_session
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.answers import days_shown, days_with_counts, known_day, rules_of, wanted_frames
from imgpipeline.web.viewer.queries import (
    PAGE_FRAMES,
    Day,
    DayQuery,
    FrameQuery,
    Name,
    UrlQuery,
    next_after,
    read_query,
)
from imgpipeline.web.viewer.responses import Renderer, answer_json
from imgpipeline.web.viewer.site import ViewedSite

_ZONES = """
SELECT source, zone, label, hour("hour") AS hour, frames, occupied_frames, detections, most_at_once, objects, occupied_s
FROM zone_occupancy WHERE day = $day AND ($source IS NULL OR source = $source) ORDER BY ALL
"""
_LINES = """
SELECT source, line, label, direction, hour("hour") AS hour, crossings, objects
FROM line_crossings WHERE day = $day AND ($source IS NULL OR source = $source) ORDER BY ALL
"""
_Row = Mapping[str, Any]


class PlacesQuery(DayQuery):
    """Counts at zones and lines."""

    source: Name | None = Field(None, description="Only zones and lines of this source.")


class PlaceNumberQuery(UrlQuery):
    """One count at a zone or a line."""

    day: Day = Field(description="UTC day.")
    zone: Name | None = Field(None, description="Name of the zone. Either `zone` or `line` is required.")
    line: Name | None = Field(None, description="Name of the line. Either `zone` or `line` is required.")
    label: Name = Field(description="The label.")
    direction: Name | None = Field(None, description="Direction of the crossing; required with `line`.")
    hour: int | None = Field(None, ge=0, le=23, description="UTC hour. Default: the whole day.")
    after: int = Field(0, ge=0, lt=10**9, description="Number of rows to skip: `next` of the previous page.")
    limit: int = Field(PAGE_FRAMES, ge=1, le=1000, description="Maximum number of rows.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.zone is None) == (self.line is None):
            raise ValueError("either zone or line is required")
        if (self.line is None) != (self.direction is None):
            raise ValueError("a line needs a direction, and a zone has none")
        return self


@dataclass(frozen=True, slots=True)
class _Counted:
    """Counts of one label at one zone, or over one line in one direction, on a day."""

    place: str
    source: str
    label: str
    direction: str | None
    hours: Mapping[int, _Row]
    """Rows by hour of the day."""


@dataclass(frozen=True, slots=True)
class _Found:
    """One count with a page of its frames."""

    number: PlaceNumber
    stored: PlaceCount
    all: Sequence[Evidence]
    page: Sequence[Evidence]
    next: int | None

    @property
    def found(self) -> PlaceCount:
        """The count that the frames add up to."""
        return PlaceCount(len(self.all), sum(one.count for one in self.all))

    def document(self) -> dict[str, Any]:
        """Returns the document for the API."""
        shown = [
            {
                "frame_id": one.frame.frame_id,
                "timestamp": one.frame.timestamp,
                "before_frame_id": one.before.frame_id if one.before else None,
                "objects": one.objects,
                "count": one.count,
            }
            for one in self.page
        ]
        counts = {
            name: {"frames": one.shown, "objects": one.objects}
            for name, one in (("stored", self.stored), ("found", self.found))
        }
        return {**counts, "next": self.next, "frames": shown}


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The foot points of one source."""

    query: FrameQuery
    """The filters, with the source."""
    points: FootPoints
    """The counts."""
    frame: Mapping[str, Any] | None
    """The latest frame of the source in these days, as the background; a row of `frames`."""


def place_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(tags=["viewer"])
    _add_places(router, site, renderer)
    _add_frames_of_places(router, site, renderer)
    _add_heat_map(router, site, renderer)
    return router


def _add_places(router: APIRouter, site: ViewedSite, renderer: Renderer) -> None:
    @router.get("/places", include_in_schema=False, response_class=HTMLResponse)
    def places_page(request: Request) -> Response:
        query = read_query(PlacesQuery, request)
        with site.lake.reading() as lake:
            day = known_day(lake, query.day)
            days = days_with_counts(site, lake)
            zones, lines = (_grouped(_rows(lake, sql, day, query)) for sql in (_ZONES, _LINES))
        return renderer.page("places.html", day=day, days=days, query=query, zones=zones, lines=lines)

    @router.get("/api/v1/places")
    def places(request: Request, query: Annotated[PlacesQuery, Query()]) -> Response:
        """Returns the stored counts at each zone and line, by UTC hour and label."""
        with site.lake.reading() as lake:
            day = known_day(lake, query.day)
            zones, lines = (_rows(lake, sql, day, query) for sql in (_ZONES, _LINES))
        return answer_json(request, {"day": day, "zones": zones, "lines": lines})


def _rows(lake: LakeSession, sql: str, day: date, query: PlacesQuery) -> Sequence[_Row]:
    rows: Sequence[_Row] = lake.arrow(sql, {"day": day, "source": query.source}).to_pylist()
    return rows


def _grouped(rows: Sequence[_Row]) -> list[_Counted]:
    found: dict[tuple[str, str, str, str | None], dict[int, _Row]] = {}
    for row in rows:
        key = (row.get("zone") or row["line"], row["source"], row["label"], row.get("direction"))
        found.setdefault(key, {})[row["hour"]] = row
    return [_Counted(*key, hours) for key, hours in found.items()]


def _add_frames_of_places(router: APIRouter, site: ViewedSite, renderer: Renderer) -> None:
    @router.get("/places/frames", include_in_schema=False, response_class=HTMLResponse)
    def frames_page(request: Request) -> Response:
        query = read_query(PlaceNumberQuery, request)
        with site.lake.reading() as lake:
            found = _find(site, lake, query)
        return renderer.page("place-frames.html", query=query, found=found, is_zone=query.zone is not None)

    @router.get("/api/v1/places/frames")
    def frames_of_a_place(request: Request, query: Annotated[PlaceNumberQuery, Query()]) -> Response:
        """Lists the frames of one count at a zone, or the crossings of one count at a line, by time."""
        with site.lake.reading() as lake:
            found = _find(site, lake, query)
        return answer_json(request, {"day": query.day, **found.document()})


def _find(site: ViewedSite, lake: LakeSession, query: PlaceNumberQuery) -> _Found:
    place = _place(rules_of(site, lake), query)
    number = PlaceNumber(known_day(lake, query.day), place, query.label, query.direction, query.hour)
    found = site.lake.remembered(lake, number, lambda: find_evidence(lake, number))
    page = found[query.after : query.after + query.limit]
    return _Found(number, stored_count(lake, number), found, page, next_after(query.after, query.limit, len(found)))


def _place(rules: Rules, query: PlaceNumberQuery) -> Zone | Line:
    places: Sequence[Zone | Line] = rules.line if query.line else rules.zone
    place = next((one for one in places if one.name in (query.line, query.zone)), None)
    if place is None:
        raise ConfigurationError(
            f"The rules no longer have the {'line' if query.line else 'zone'} {query.line or query.zone!r}.",
            next_step=f"add it to the rules again, or rebuild the day: imgpipeline build --force --day {query.day}",
        )
    return place


def _add_heat_map(router: APIRouter, site: ViewedSite, renderer: Renderer) -> None:
    @router.get("/heatmap", include_in_schema=False, response_class=HTMLResponse)
    def heat_map_page(request: Request) -> Response:
        query = read_query(FrameQuery, request)
        zone = site.page_zone(query)
        with site.lake.reading(zone) as lake:
            shown = _heat_map(site, lake, query)
            days = days_shown(lake, query)
            sources = [row["source"] for row in _sources(site, lake, days)]
            labels = _labels(site, lake, days)
            known = days_with_counts(site, lake)
        return renderer.page("heatmap.html", shown=shown, query=shown.query, period=days, days=known, sources=sources,
                             labels=labels, columns=COLUMNS, rows=ROWS, zone=zone)  # fmt: skip

    @router.get("/api/v1/heatmap")
    def heat_map(request: Request, query: Annotated[FrameQuery, Query()]) -> Response:
        """Counts the foot points of a source's detections on a grid; `cells` are column, row and count."""
        with site.lake.reading(query.timezone) as lake:
            shown = _heat_map(site, lake, query)
        return answer_json(request, {
            "source": shown.query.source, "columns": COLUMNS, "rows": ROWS, "cells": shown.points.cells,
            "detections": shown.points.detections, "without_foot_point": shown.points.without,
        })  # fmt: skip


def _heat_map(site: ViewedSite, lake: LakeSession, query: FrameQuery) -> HeatMap:
    """Reads the heat map of the query's source, or of the source with the most frames."""
    days = days_shown(lake, query)
    if query.source is None:
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
