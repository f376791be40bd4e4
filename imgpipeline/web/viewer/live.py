"""The live page: the newest image of each source with its age and boxes, also in the API."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from imgpipeline.lake.query.frames import detections_in, list_newest
from imgpipeline.lake.query.source_status import SourceStatus
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.answers import statuses_of
from imgpipeline.web.viewer.queries import NoQuery, read_query
from imgpipeline.web.viewer.rendering import Renderer
from imgpipeline.web.viewer.responses import answer_json
from imgpipeline.web.viewer.site import ViewedSite


@dataclass(frozen=True, slots=True)
class LiveSource:
    """A source and its newest frame."""

    status: SourceStatus
    """How it is."""
    frame: dict[str, Any] | None
    """A row of `frames`; None if the source has had no frame in the last 30 days."""
    boxes: Sequence[dict[str, Any]]
    """All detections of the frame."""

    def age_s(self, now: datetime) -> float:
        """Returns how old the frame is, in seconds; at least 0, for the clock of a camera may be ahead."""
        return max(0.0, (now - self.frame["timestamp"]).total_seconds()) if self.frame else 0.0


def live_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes.

    Args:
        site: What they read.
        renderer: Makes the page.
    """
    router = APIRouter(tags=["viewer"])

    def read() -> tuple[LiveSource, ...]:
        with site.lake.reading() as lake:
            return site.lake.remembered(lake, "live", lambda: read_live(lake, site))

    @router.get("/live", include_in_schema=False, response_class=HTMLResponse)
    def page(request: Request) -> Response:
        read_query(NoQuery, request)
        return renderer.page("live.html", sources=read(), now=site.clock())

    @router.get("/api/v1/live")
    def api(request: Request) -> Response:
        """The newest frame of each source of the last 30 days, with its detections."""
        found = [{"source": one.status.source, "state": one.status.state.value, "frame": one.frame,
                  "detections": one.boxes} for one in read()]  # fmt: skip
        return answer_json(request, {"snapshot": site.lake.state.taken_at, "sources": found})

    return router


def read_live(lake: LakeSession, site: ViewedSite) -> tuple[LiveSource, ...]:
    """Reads the newest frame of each source of the last 30 days, the sources by name."""
    statuses = statuses_of(site, lake)
    last = {one.source: one.last_frame.astimezone(UTC) for one in statuses if one.last_frame}
    frames = {row["source"]: row for row in list_newest(lake, last)}
    boxes = detections_in(lake, [(row["day"], row["frame_id"]) for row in frames.values()])
    found = []
    for status in statuses:
        frame = frames.get(status.source)
        found.append(LiveSource(status, frame, boxes[frame["day"], frame["frame_id"]] if frame else ()))
    return tuple(found)
