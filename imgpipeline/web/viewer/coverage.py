"""When each source was observed on a day, by hour, with its outages: a page and in the API."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field

from imgpipeline.lake.query.coverage import SourceCoverage, read_coverage
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.answers import day_counts, known_day, shown_day
from imgpipeline.web.viewer.queries import DayQuery, Name, read_query
from imgpipeline.web.viewer.rendering import Renderer
from imgpipeline.web.viewer.responses import answer_json
from imgpipeline.web.viewer.site import ViewedSite


class CoverageQuery(DayQuery):
    """Which sources, on which day."""

    source: Name | None = Field(None, description="Only this source.")


def coverage_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes.

    Args:
        site: What they read.
        renderer: Makes the page.
    """
    router = APIRouter(tags=["viewer"])

    def read(lake: LakeSession, query: CoverageQuery) -> Sequence[SourceCoverage]:
        day = known_day(lake, query.day)
        found = site.lake.remembered(
            lake, ("coverage", day), lambda: read_coverage(lake, site.settings, day, now=site.clock())
        )
        return [one for one in found if query.source in (None, one.source)]

    @router.get("/coverage", include_in_schema=False, response_class=HTMLResponse)
    def page(request: Request) -> Response:
        query = read_query(CoverageQuery, request)
        with site.lake.reading() as lake:
            day = shown_day(lake, query.day)
            if day is None:
                return renderer.page("empty.html")
            found = read(lake, query)
            days = site.lake.remembered(lake, "days", lambda: day_counts(lake))
        midnight = datetime.combine(day, time(), UTC)
        return renderer.page("coverage.html", day=day, days=days, query=query, sources=found, midnight=midnight)

    @router.get("/api/v1/coverage")
    def api(request: Request, query: Annotated[CoverageQuery, Query()]) -> Response:
        """For how long each source was observed in each hour (UTC) of a day, and when it was offline or silent."""
        with site.lake.reading() as lake:
            day, found = known_day(lake, query.day), read(lake, query)
        sources = [
            {
                **asdict(one),
                "observed_s": one.observed_s,
                "outages": [{**asdict(outage), "duration_s": outage.duration_s} for outage in one.outages],
            }
            for one in found
        ]
        return answer_json(request, {"day": day, "sources": sources})

    return router
