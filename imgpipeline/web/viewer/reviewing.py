"""Marking frames as reviewed: by forms and a key on the pages, and by the API; and a calendar of what is left."""

import re
from calendar import Calendar
from collections.abc import Collection
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import Field

from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.lake.query.days import Span, read_span
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import Visitor
from imgpipeline.web.viewer.acknowledging import allowed
from imgpipeline.web.viewer.answers import day_counts, known_day, shown_day, utc_days_of
from imgpipeline.web.viewer.forms import read_form
from imgpipeline.web.viewer.queries import Day, FrameId, MonthQuery, SpanQuery, Zoned, read_query
from imgpipeline.web.viewer.rendering import Renderer
from imgpipeline.web.viewer.responses import answer_json
from imgpipeline.web.viewer.review_states import calendar_days
from imgpipeline.web.viewer.reviewed import ReviewedDay, ReviewedPart, count_reviewed, whole_day
from imgpipeline.web.viewer.site import ViewedSite

_BACK = re.compile(r"/(review|frames/[0-9-]{10}/[0-9a-f]{32})(\?[!-~]*)?")
"""Pages of this site that a form leads back to."""


class ReviewedBody(Zoned):
    """What somebody has reviewed."""

    day: Day = Field(description="Day of `timezone`; with frames, their UTC day.")
    frames: Annotated[list[FrameId], Field(max_length=1000)] | None = Field(
        None, description="Ids of frames of the UTC day. Default: the whole day, as it is shown now."
    )
    reviewed: bool = Field(True, description="False takes the mark back.")


def reviewing_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes.

    Args:
        site: Names the store.
        renderer: Makes the page.
    """
    router = APIRouter(tags=["viewer"])

    @router.get("/api/v1/reviewed")
    def reviewed(request: Request, query: Annotated[SpanQuery, Query()]) -> Response:
        """The days with data, the latest first, with how many of their frames the asking person has reviewed."""
        visitor: Visitor = request.state.visitor
        span = read_span(None, query.from_day, query.to_day)
        with site.lake.reading(query.timezone) as lake:
            days = calendar_days(site, lake, visitor, span, is_needed=True)
        rows = [{"day": one.day, "frames": one.frames, "reviewed": one.reviewed} for one in days]
        return answer_json(request, {"by": visitor.name, "days": rows})

    @router.post("/api/v1/reviewed")
    def mark(request: Request, body: ReviewedBody) -> dict[str, Any]:
        """Marks frames of a day, or the whole day, as reviewed by the asking person. No count changes."""
        return _mark(site, allowed(request, Scope.ACKNOWLEDGE), body)

    @router.post("/review/reviewed", include_in_schema=False)
    async def by_form(request: Request) -> Response:
        visitor = allowed(request, Scope.ACKNOWLEDGE)
        form = await read_form(request)
        back = form.pop("back", "/review")
        if not _BACK.fullmatch(back):
            raise UsageError("The form does not lead back to a page of this server.", next_step="send it from its page")
        body = _body_of(form)
        await run_in_threadpool(_mark, site, visitor, body)
        return RedirectResponse(back, 303)

    @router.get("/calendar", include_in_schema=False, response_class=HTMLResponse)
    def calendar(request: Request) -> Response:
        return _calendar_page(site, renderer, request)

    return router


def _body_of(form: dict[str, str]) -> ReviewedBody:
    frames = {"frames": form["frames"].split(",")} if "frames" in form else {}
    try:
        return ReviewedBody.model_validate({**form, **frames})
    except ValueError:
        message = "The form names no day, or something that is no frame."
        raise UsageError(message, next_step="send it from its page") from None


def _mark(site: ViewedSite, visitor: Visitor, body: ReviewedBody) -> dict[str, Any]:
    with site.lake.reading(body.timezone) as lake:
        day = _mark_day(site, lake, visitor, body) if body.frames is None else _mark_frames(site, lake, visitor, body)
        counts = {row["day"]: row["frames"] for row in day_counts(lake)}
        marked = site.reviews.of_days(visitor.name, utc_days_of(lake, [day]))
        reviewed = count_reviewed(lake, list(marked.values())).get(day, 0)
    return {"by": visitor.name, "day": str(day), "frames": counts.get(day, 0), "reviewed": reviewed}


def _mark_frames(site: ViewedSite, lake: LakeSession, visitor: Visitor, body: ReviewedBody) -> date:
    """Marks frames of a UTC day; returns the day of the session's time zone in which the first of them is."""
    day, frames = body.day, body.frames or []
    times = _times_of(lake, day, frames)
    missing = [frame_id for frame_id in frames if frame_id not in times]
    if missing:
        raise ConfigurationError(f"{day} has no frame {missing[0]}.", next_step=f"its frames: /api/v1/frames?day={day}")

    def change(stored: ReviewedDay) -> ReviewedDay:
        if body.reviewed:
            return replace(stored, frames=stored.frames.union(frames))
        if any(stored.part_at(time) for time in times.values()):
            raise UsageError(f"All of {day} is marked as reviewed.", next_step="take back the mark of the day")
        return replace(stored, frames=stored.frames.difference(frames))

    site.reviews.change(visitor.name, day, site.clock(), change)
    return lake.day_of(times[frames[0]]) if frames else day


def _mark_day(site: ViewedSite, lake: LakeSession, visitor: Visitor, body: ReviewedBody) -> date:
    """Marks a day of the session's time zone, or takes its marks back, in each UTC day that it touches."""
    for day in utc_days_of(lake, [known_day(lake, body.day)]):
        part = whole_day(day, lake.snapshot.ends)
        if lake.local:
            start, end = (lake.local.instant(one, 0) for one in (body.day, body.day + timedelta(days=1)))
            part = replace(part, start=max(part.start, start), end=min(part.end, end))
        if part.start < part.end:
            _mark_part(site, lake, visitor, day, part, is_reviewed=body.reviewed)
    return body.day


def _mark_part(
    site: ViewedSite, lake: LakeSession, visitor: Visitor, day: date, part: ReviewedPart, *, is_reviewed: bool
) -> None:
    def change(stored: ReviewedDay) -> ReviewedDay:
        times = _times_of(lake, day, stored.frames)
        # A frame that is gone belongs to every part.
        in_part = [one for one in stored.frames if one not in times or part.start <= times[one] < part.end]
        return stored.changed(part, in_part, is_reviewed=is_reviewed)

    site.reviews.change(visitor.name, day, site.clock(), change)


def _times_of(lake: LakeSession, day: date, frames: Collection[str]) -> dict[str, datetime]:
    """Returns the times of those frames that a UTC day has."""
    known = 'SELECT frame_id, "timestamp" FROM frames WHERE day = $day AND list_contains($frames, frame_id)'
    return dict(lake.query(known, {"day": day, "frames": list(frames)}).rows)


def _calendar_page(site: ViewedSite, renderer: Renderer, request: Request) -> Response:
    query = read_query(MonthQuery, request)
    zone = site.page_zone(query)
    with site.lake.reading(zone) as lake:
        latest = shown_day(lake, None)
        if latest is None:
            return renderer.page("empty.html")
        first = query.first_day or latest.replace(day=1)
        weeks = Calendar().monthdatescalendar(first.year, first.month)
        days = calendar_days(site, lake, request.state.visitor, Span(first, weeks[-1][-1]))
        months = sorted({day.replace(day=1) for day in lake.days})
    shown = {one.day: one for one in days if (one.day.year, one.day.month) == (first.year, first.month)}
    return renderer.page(
        "calendar.html", zone=zone, query=query, first=first, weeks=weeks, shown=shown,
        earlier=max((month for month in months if month < first), default=None),
        later=min((month for month in months if month > first), default=None),
        to_do=min((one.day for one in shown.values() if one.state in ("open", "partly")), default=None),
        by=request.state.visitor.name,
    )  # fmt: skip
