"""What stood in the zones and crossed the lines on a day, and the frames behind each number: pages and in the API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from imgpipeline.errors import ConfigurationError
from imgpipeline.events.configuration import Line, Rules, Zone
from imgpipeline.events.places import Evidence, PlaceCount, PlaceNumber, find_evidence, stored_count
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.answers import day_counts, known_day, rules_of, shown_day
from imgpipeline.web.viewer.queries import PlaceNumberQuery, PlacesQuery, read_query
from imgpipeline.web.viewer.rendering import Renderer
from imgpipeline.web.viewer.responses import answer_json
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


@dataclass(frozen=True, slots=True)
class _Counted:
    """One label in one zone, or over one line in one direction, on the day."""

    place: str
    source: str
    label: str
    direction: str | None
    hours: Mapping[int, _Row]
    """Rows by hour of the day."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A number with the frames behind it."""

    number: PlaceNumber
    stored: PlaceCount
    all: Sequence[Evidence]
    page: Sequence[Evidence]
    next: int | None

    @property
    def found(self) -> PlaceCount:
        """What the frames add up to."""
        return PlaceCount(len(self.all), sum(one.count for one in self.all))

    def document(self) -> dict[str, Any]:
        """Returns what the API answers."""
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


def place_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes.

    Args:
        site: What they read.
        renderer: Makes the pages.
    """
    router = APIRouter(tags=["viewer"])

    @router.get("/places", include_in_schema=False, response_class=HTMLResponse)
    def page(request: Request) -> Response:
        query = read_query(PlacesQuery, request)
        with site.lake.reading() as lake:
            day = shown_day(lake, query.day)
            if day is None:
                return renderer.page("empty.html")
            days = site.lake.remembered(lake, "days", lambda: day_counts(lake))
            zones, lines = (_grouped(_rows(lake, sql, day, query)) for sql in (_ZONES, _LINES))
        return renderer.page("places.html", day=day, days=days, query=query, zones=zones, lines=lines)

    @router.get("/api/v1/places")
    def api(request: Request, query: Annotated[PlacesQuery, Query()]) -> Response:
        """What stood in each zone and crossed each line, by hour (UTC) and label, as the day's build counted it."""
        with site.lake.reading() as lake:
            day = known_day(lake, query.day)
            zones, lines = (_rows(lake, sql, day, query) for sql in (_ZONES, _LINES))
        return answer_json(request, {"day": day, "zones": zones, "lines": lines})

    @router.get("/places/frames", include_in_schema=False, response_class=HTMLResponse)
    def frames_page(request: Request) -> Response:
        query = read_query(PlaceNumberQuery, request)
        with site.lake.reading() as lake:
            found = _find(site, lake, query)
        return renderer.page("place-frames.html", query=query, found=found, is_zone=query.zone is not None)

    @router.get("/api/v1/places/frames")
    def frames(request: Request, query: Annotated[PlaceNumberQuery, Query()]) -> Response:
        """The frames that make up one number of a zone, or the crossings of one of a line, in the order of time."""
        with site.lake.reading() as lake:
            found = _find(site, lake, query)
        return answer_json(request, {"day": query.day, **found.document()})

    return router


def _rows(lake: LakeSession, sql: str, day: date, query: PlacesQuery) -> Sequence[_Row]:
    rows: Sequence[_Row] = lake.arrow(sql, {"day": day, "source": query.source}).to_pylist()
    return rows


def _grouped(rows: Sequence[_Row]) -> list[_Counted]:
    found: dict[tuple[str, str, str, str | None], dict[int, _Row]] = {}
    for row in rows:
        key = (row.get("zone") or row["line"], row["source"], row["label"], row.get("direction"))
        found.setdefault(key, {})[row["hour"]] = row
    return [_Counted(*key, hours) for key, hours in found.items()]


def _find(site: ViewedSite, lake: LakeSession, query: PlaceNumberQuery) -> _Found:
    place = _place(rules_of(site, lake), query)
    number = PlaceNumber(known_day(lake, query.day), place, query.label, query.direction, query.hour)
    found = site.lake.remembered(lake, number, lambda: find_evidence(lake, number))
    behind = query.after + query.limit
    page = found[query.after : behind]
    return _Found(number, stored_count(lake, number), found, page, behind if behind < len(found) else None)


def _place(rules: Rules, query: PlaceNumberQuery) -> Zone | Line:
    places: Sequence[Zone | Line] = rules.line if query.line else rules.zone
    place = next((one for one in places if one.name in (query.line, query.zone)), None)
    if place is None:
        raise ConfigurationError(
            f"The rules have no {'line' if query.line else 'zone'} {query.line or query.zone!r} any more.",
            next_step="put it back into the rules, or build the day again: imgpipeline events build --force "
            f"--day {query.day}",
        )
    return place
