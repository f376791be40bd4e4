"""Marking frames as reviewed, by forms, keys and the API, and the calendar of days that are left."""

from calendar import Calendar
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field

from imgpipeline.errors import ConfigurationError, TransientError, UsageError
from imgpipeline.lake.query.days import Span, read_span
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import Visitor, allowed
from imgpipeline.web.viewer.answers import day_counts, known_day, utc_days_of
from imgpipeline.web.viewer.queries import (
    MOST_FORM_BYTES,
    Day,
    FrameId,
    MonthQuery,
    SpanQuery,
    Splits,
    Zoned,
)
from imgpipeline.web.viewer.responses import fields_of
from imgpipeline.web.viewer.reviewed import ReviewedDay, ReviewedPart, count_reviewed, whole_day
from imgpipeline.web.viewer.site import Site, ViewedSite
from imgpipeline.web.viewer.views import Asked, View, add_views


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """One day of the calendar."""

    day: date
    """The day, in the session's time zone."""
    frames: int
    reviewed: int | None
    """Frames that the visitor has reviewed; None if the store does not answer."""

    @property
    def state(self) -> str:
        """One of `reviewed`, `partly`, `open` (nothing reviewed), `unknown`."""
        if self.reviewed is None:
            return "unknown"
        return "reviewed" if self.reviewed >= self.frames else "partly" if self.reviewed else "open"


class ReviewedBody(Zoned):
    """Frames or a day to mark."""

    day: Day = Field(description="Day in `timezone`; with `frames`, their UTC day.")
    frames: Annotated[Annotated[list[FrameId], Field(max_length=1000)] | None, Splits] = Field(
        None, description="Ids of frames of the UTC day. Default: all frames of the day that the viewer shows now."
    )
    reviewed: bool = Field(True, description="False removes the mark.")


class ReviewedForm(ReviewedBody):
    """The form of a page."""

    back: str = Field("/review", pattern=r"^/(review|frames/[0-9-]{10}/[0-9a-f]{32})(\?[!-~]*)?$")
    """Page of this server to which it redirects."""


def _reviewed_days(asked: Asked) -> list[CalendarDay]:
    span = read_span(None, asked.query.from_day, asked.query.to_day)
    return _calendar_days(asked, span, is_needed=True)


def _mark(site: ViewedSite, visitor: Visitor, body: ReviewedBody) -> dict[str, Any]:
    with site.lake.reading(body.timezone) as lake:
        day = _mark_day(site, lake, visitor, body) if body.frames is None else _mark_frames(site, lake, visitor, body)
        counts = {row["day"]: row["frames"] for row in day_counts(lake)}
        marked = site.reviews.of_days(visitor.name, utc_days_of(lake, [day]))
        reviewed = count_reviewed(lake, list(marked.values())).get(day, 0)
    return {"by": visitor.name, "day": str(day), "frames": counts.get(day, 0), "reviewed": reviewed}


def _mark_frames(site: ViewedSite, lake: LakeSession, visitor: Visitor, body: ReviewedBody) -> date:
    """Marks frames of a UTC day. Returns the day of the first of them, in the session's time zone."""
    day, frames = body.day, body.frames or []
    times = _times_of(lake, day, frames)
    missing = [frame_id for frame_id in frames if frame_id not in times]
    if missing:
        raise ConfigurationError(
            f"{day} has no frame {missing[0]}.", next_step=f"list its frames: /api/v1/frames?day={day}"
        )

    def change(stored: ReviewedDay) -> ReviewedDay:
        if body.reviewed:
            return replace(stored, frames=stored.frames.union(frames))
        if any(stored.part_at(time) for time in times.values()):
            raise UsageError(f"The whole day {day} is marked as reviewed.", next_step="remove the mark of the day")
        return replace(stored, frames=stored.frames.difference(frames))

    site.reviews.change(visitor.name, day, site.clock(), change)
    return lake.day_of(times[frames[0]]) if frames else day


def _mark_day(site: ViewedSite, lake: LakeSession, visitor: Visitor, body: ReviewedBody) -> date:
    """Marks a day of the session's time zone, or removes its marks, in each UTC day that it overlaps."""
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
        # A frame that no longer exists belongs to every part.
        in_part = [one for one in stored.frames if one not in times or part.start <= times[one] < part.end]
        return stored.changed(part, in_part, is_reviewed=is_reviewed)

    site.reviews.change(visitor.name, day, site.clock(), change)


def _times_of(lake: LakeSession, day: date, frames: Collection[str]) -> dict[str, datetime]:
    """Returns the times of the frames that exist on a UTC day."""
    known = 'SELECT frame_id, "timestamp" FROM frames WHERE day = $day AND list_contains($frames, frame_id)'
    return dict(lake.query(known, {"day": day, "frames": list(frames)}).rows)


def _first_of_month(asked: Asked) -> date:
    latest = known_day(asked.lake, None)
    first: date = asked.query.first_day or latest.replace(day=1)
    return first


def _calendar_page(asked: Asked, first: date) -> Mapping[str, Any]:
    weeks = Calendar().monthdatescalendar(first.year, first.month)
    days = _calendar_days(asked, Span(first, weeks[-1][-1]))
    months = sorted({day.replace(day=1) for day in asked.lake.days})
    shown = {one.day: one for one in days if (one.day.year, one.day.month) == (first.year, first.month)}
    return {
        "first": first, "weeks": weeks, "shown": shown, "by": asked.visitor.name,
        "earlier": max((month for month in months if month < first), default=None),
        "later": min((month for month in months if month > first), default=None),
        "to_do": min((one.day for one in shown.values() if one.state in ("open", "partly")), default=None),
    }  # fmt: skip


def reviewed_of(site: ViewedSite, visitor: Visitor, days: Sequence[date]) -> dict[date, ReviewedDay] | None:
    """Returns the frames of some days that a visitor has reviewed; None if the store does not answer."""
    if isinstance(site.lake.state.problem, TransientError):
        return None
    try:
        if len(days) == 1:
            return {days[0]: site.reviews.of_day(visitor.name, days[0])}
        return site.reviews.of_days(visitor.name, days)
    except TransientError:
        return None


def _calendar_days(asked: Asked, span: Span, *, is_needed: bool = False) -> list[CalendarDay]:
    """Returns the days of a span that have frames, the latest first, with the number of reviewed frames.

    If `is_needed`, raises TransientError if the store does not answer, instead of leaving numbers unknown.
    """
    lake = asked.lake
    frames = {row["day"]: row["frames"] for row in asked.days if row["frames"] and row["day"] in span}
    days = utc_days_of(lake, sorted(frames)) if frames else []
    if is_needed:
        reviewed: Mapping[date, ReviewedDay] | None = asked.site.reviews.of_days(asked.visitor.name, days)
    else:
        reviewed = reviewed_of(asked.site, asked.visitor, days)
    counts = None if reviewed is None else count_reviewed(lake, list(reviewed.values()))
    return [CalendarDay(day, count, None if counts is None else counts.get(day, 0)) for day, count in frames.items()]


router = APIRouter(tags=["viewer"])
add_views(
    router,
    View(
        "/reviewed", SpanQuery, _reviewed_days, None,
        lambda asked, found: {"by": asked.visitor.name, "days": [fields_of(one) for one in found]},
        "Lists the days with frames, the latest first, with the number of frames that the caller has reviewed.",
    ),
    View("/calendar", MonthQuery, _first_of_month, _calendar_page),
)  # fmt: skip


@router.post("/api/v1/reviewed")
def mark(request: Request, site: Site, body: ReviewedBody) -> dict[str, Any]:
    """Marks frames or a whole day as reviewed by the caller, or removes the marks. Counts do not change."""
    return _mark(site, allowed(request, Scope.ACKNOWLEDGE), body)


@router.post("/review/reviewed", include_in_schema=False, max_body_size=MOST_FORM_BYTES)
def mark_by_form(request: Request, site: Site, body: Annotated[ReviewedForm, Form()]) -> Response:
    """Marks frames or a day from a page, and leads back to it."""
    mark(request, site, body)
    return RedirectResponse(body.back, 303)
