"""The sources, as pages and in the API: their status, their newest images, and when each was observed on a day."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field

from imgpipeline.lake.query.coverage import SourceCoverage, read_coverage
from imgpipeline.lake.query.frames import detections_in, list_newest
from imgpipeline.lake.query.source_status import SourceStatus, source_status_of
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.answers import days_with_counts, known_day
from imgpipeline.web.viewer.queries import DayQuery, Name, NoQuery, read_query
from imgpipeline.web.viewer.responses import Renderer, answer_json, fields_of
from imgpipeline.web.viewer.site import ViewedSite


@dataclass(frozen=True, slots=True)
class LiveSource:
    """A source and its newest frame."""

    status: SourceStatus
    frame: dict[str, Any] | None
    """A row of `frames`; None without a frame in the last 30 days."""
    boxes: Sequence[dict[str, Any]]
    """All detections of the frame."""

    def age_s(self, now: datetime) -> float:
        """Returns the age of the frame in seconds; at least 0, because a camera's clock may be ahead."""
        return max(0.0, (now - self.frame["timestamp"]).total_seconds()) if self.frame else 0.0


class CoverageQuery(DayQuery):
    """Sources on a day."""

    source: Name | None = Field(None, description="Only this source.")


def source_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(tags=["viewer"])

    @router.get("/api/v1/sources")
    def sources(request: Request) -> Response:
        """Lists the sources of the last 30 days: state, last frame, rate, and today's accounts."""
        with site.lake.reading() as lake:
            found = statuses_of(site, lake)
        return answer_json(request, {"sources": [fields_of(one) for one in found]})

    _add_live(router, site, renderer)
    _add_coverage(router, site, renderer)
    return router


def _add_live(router: APIRouter, site: ViewedSite, renderer: Renderer) -> None:
    def read() -> Sequence[LiveSource]:
        with site.lake.reading() as lake:
            return site.lake.remembered(lake, "live", lambda: _read_live(site, lake))

    @router.get("/live", include_in_schema=False, response_class=HTMLResponse)
    def live_page(request: Request) -> Response:
        read_query(NoQuery, request)
        return renderer.page("live.html", sources=read(), now=site.clock())

    @router.get("/api/v1/live")
    def live(request: Request) -> Response:
        """Returns the newest frame of each source of the last 30 days, with its detections."""
        found = [{"source": one.status.source, "state": one.status.state.value, "frame": one.frame,
                  "detections": one.boxes} for one in read()]  # fmt: skip
        return answer_json(request, {"snapshot": site.lake.state.taken_at, "sources": found})


def _add_coverage(router: APIRouter, site: ViewedSite, renderer: Renderer) -> None:
    def read(lake: LakeSession, query: CoverageQuery) -> Sequence[SourceCoverage]:
        day = known_day(lake, query.day)
        found = site.lake.remembered(
            lake, ("coverage", day), lambda: read_coverage(lake, site.settings, day, now=site.clock())
        )
        return [one for one in found if query.source in (None, one.source)]

    @router.get("/coverage", include_in_schema=False, response_class=HTMLResponse)
    def coverage_page(request: Request) -> Response:
        query = read_query(CoverageQuery, request)
        with site.lake.reading() as lake:
            day, found = known_day(lake, query.day), read(lake, query)
            days = days_with_counts(site, lake)
        midnight = datetime.combine(day, time(), UTC)
        return renderer.page("coverage.html", day=day, days=days, query=query, sources=found, midnight=midnight)

    @router.get("/api/v1/coverage")
    def coverage(request: Request, query: Annotated[CoverageQuery, Query()]) -> Response:
        """Returns how long each source was observed in each UTC hour of a day, with its outages."""
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


def statuses_of(site: ViewedSite, lake: LakeSession) -> tuple[SourceStatus, ...]:
    """Returns the status of each source, queried once per session."""
    return site.lake.remembered(lake, "source status", lambda: source_status_of(lake, site.settings, now=site.clock()))


def _read_live(site: ViewedSite, lake: LakeSession) -> Sequence[LiveSource]:
    statuses = statuses_of(site, lake)
    last = {one.source: one.last_frame.astimezone(UTC) for one in statuses if one.last_frame}
    frames = {row["source"]: row for row in list_newest(lake, last)}
    boxes = detections_in(lake, [(row["day"], row["frame_id"]) for row in frames.values()])
    found = []
    for status in statuses:
        frame = frames.get(status.source)
        found.append(LiveSource(status, frame, boxes[frame["day"], frame["frame_id"]] if frame else ()))
    return found
