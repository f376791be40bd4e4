"""Where detections are in the image: counts at zones and lines with their frames, and heat maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fastapi import APIRouter
from pydantic import Field, model_validator

from imgpipeline.errors import ConfigurationError
from imgpipeline.events.configuration import Line, Rules, Zone
from imgpipeline.events.places import Evidence, PlaceNumber, find_evidence, stored_count
from imgpipeline.lake.query.frames import list_frames
from imgpipeline.lake.query.histograms import COLUMNS, ROWS, FootPoints, count_foot_points
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.web.viewer.answers import choices_of, days_shown, rules_of, wanted_frames
from imgpipeline.web.viewer.queries import PAGE_FRAMES, Day, DayQuery, FrameQuery, Name, UrlQuery
from imgpipeline.web.viewer.views import Asked, View, add_views, part_of

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
class _Found:
    """One count with a page of its frames."""

    number: PlaceNumber
    stored: Mapping[str, int]
    """The stored count: `frames`, and `objects` in them."""
    all: Sequence[Evidence]
    page: Sequence[Evidence]
    next: int | None

    @property
    def found(self) -> Mapping[str, int]:
        """The count that the frames add up to, like `stored`."""
        return {"frames": len(self.all), "objects": sum(one.count for one in self.all)}

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
        return {"stored": self.stored, "found": self.found, "next": self.next, "frames": shown}


def _places(asked: Asked) -> tuple[Sequence[_Row], Sequence[_Row]]:
    """Returns the rows of zones, and those of lines."""
    given = {"day": asked.day, "source": asked.query.source}
    return asked.lake.arrow(_ZONES, given).to_pylist(), asked.lake.arrow(_LINES, given).to_pylist()


def _places_page(asked: Asked, found: tuple[Sequence[_Row], Sequence[_Row]]) -> Mapping[str, Any]:
    zones, lines = map(_grouped, found)
    return {"day": asked.day, "days": asked.days, "zones": zones, "lines": lines}


def _grouped(rows: Sequence[_Row]) -> list[_Row]:
    """Returns the rows of each label at one zone, or over one line in one direction, by hour."""
    found: dict[tuple[str, str, str, str | None], dict[int, _Row]] = {}
    for row in rows:
        key = (row.get("zone") or row["line"], row["source"], row["label"], row.get("direction"))
        found.setdefault(key, {})[row["hour"]] = row
    names = ("place", "source", "label", "direction")
    return [{**dict(zip(names, key, strict=True)), "hours": hours} for key, hours in found.items()]


def _find(asked: Asked) -> _Found:
    lake, query = asked.lake, asked.query
    place = _place(rules_of(asked.site, lake), query)
    number = PlaceNumber(asked.day, place, query.label, query.direction, query.hour)
    found = asked.remembered(number, lambda: find_evidence(lake, number))
    shown = part_of(found, query)
    return _Found(number, stored_count(lake, number), found, shown.rows, shown.next)


def _place(rules: Rules, query: PlaceNumberQuery) -> Zone | Line:
    places: Sequence[Zone | Line] = rules.line if query.line else rules.zone
    place = next((one for one in places if one.name in (query.line, query.zone)), None)
    if place is None:
        raise ConfigurationError(
            f"The rules no longer have the {'line' if query.line else 'zone'} {query.line or query.zone!r}.",
            next_step=f"add it to the rules again, or rebuild the day: imgpipeline build --force --day {query.day}",
        )
    return place


def _heat_map(asked: Asked) -> Mapping[str, Any]:
    """Reads the foot points of the query's source, or of the source with the most frames, and its latest frame."""
    site, lake, query = asked.site, asked.lake, asked.query
    days = days_shown(lake, query)
    if query.source is None:
        sources = choices_of(site, lake, days)["source"]
        most, _ = max(sources, key=lambda choice: choice[1] or 0, default=(None, None))
        query = query.model_copy(update={"source": most})
    wanted = wanted_frames(site, lake, query, days)
    newest = list_frames(
        lake, WantedFrames(source=query.source, span=wanted.span, local=wanted.local), 1
    ).table.to_pylist()
    points = asked.remembered(("foot points", wanted), lambda: count_foot_points(lake, wanted))
    return {"query": query, "period": days, "points": points, "frame": newest[0] if newest else None}


def _heat_map_page(asked: Asked, found: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = choices_of(asked.site, asked.lake, found["period"])
    return {**found, "days": asked.days, "choices": choices, "columns": COLUMNS, "rows": ROWS}


def _heat_map_document(_asked: Asked, found: Mapping[str, Any]) -> Mapping[str, Any]:
    points: FootPoints = found["points"]
    return {
        "source": found["query"].source, "columns": COLUMNS, "rows": ROWS, "cells": points.cells,
        "detections": points.detections, "without_foot_point": points.without,
    }  # fmt: skip


router = APIRouter(tags=["viewer"])
add_views(
    router,
    View(
        "/places", PlacesQuery, _places, _places_page,
        lambda asked, found: {"day": asked.day, "zones": found[0], "lines": found[1]},
        "Returns the stored counts at each zone and line, by UTC hour and label.",
    ),
    View(
        "/places/frames", PlaceNumberQuery, _find,
        lambda asked, found: {"found": found, "is_zone": asked.query.zone is not None},
        lambda asked, found: {"day": asked.query.day, **found.document()},
        "Lists the frames of one count at a zone, or the crossings of one count at a line, by time.",
    ),
    View(
        "/heatmap", FrameQuery, _heat_map, _heat_map_page, _heat_map_document,
        "Counts the foot points of a source's detections on a grid; `cells` are column, row and count.",
    ),
)  # fmt: skip
