"""The pages: overview, review grid, one frame, and the proof of a number. All of their state is in the URL."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, Response

from imgpipeline.errors import ImgpipelineError
from imgpipeline.events.configuration import Line, Zone
from imgpipeline.export.annotations import annotations_of
from imgpipeline.lake.lineage.explain import explain
from imgpipeline.lake.lineage.explanation import NumberId
from imgpipeline.lake.lineage.frame_lineage import trace_frame
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.frame_tracks import tracks_of_frame
from imgpipeline.lake.query.frames import detections_in
from imgpipeline.lake.query.summaries import ask_session
from imgpipeline.lake.query.wanted_frames import rows_of_days
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import Visitor
from imgpipeline.web.viewer.alerts import numbered_page
from imgpipeline.web.viewer.answers import (
    counts_of,
    day_counts,
    days_shown,
    frame_row,
    in_utc_hours,
    known_day,
    neighbours,
    number_of,
    numbers_of_frame,
    page_of_frames,
    rules_of,
    shown_day,
    utc_days_of,
    wanted_frames,
)
from imgpipeline.web.viewer.overview import read_health, read_overview
from imgpipeline.web.viewer.queries import (
    PAGE_FRAMES,
    Day,
    FrameId,
    FrameQuery,
    NumberQuery,
    OverviewQuery,
    PageQuery,
    read_query,
)
from imgpipeline.web.viewer.rendering import Renderer
from imgpipeline.web.viewer.review_states import reviewed_of
from imgpipeline.web.viewer.reviewed import count_reviewed
from imgpipeline.web.viewer.site import MOST_EXPLAINED, ViewedSite, too_large
from imgpipeline.web.viewer.timeline import read_timeline

AnswerT = TypeVar("AnswerT")
_SHOWN_DETECTIONS = 200
_MODELS = """
SELECT model, count(*) FROM (
    SELECT unnest(list_distinct(coalesce([one.model FOR one IN detectors], []) || [model_used])) AS model
    FROM frames WHERE {}
) WHERE model IS NOT NULL GROUP BY model ORDER BY model
"""


def page_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes.

    Args:
        site: What they read.
        renderer: Makes the pages.
    """
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    router.get("/")(partial(_overview, site, renderer))
    router.get("/review")(partial(_review, site, renderer))
    router.get("/explain")(partial(_explain, site, renderer))
    _add_frame(router, site, renderer)
    return router


def _overview(site: ViewedSite, renderer: Renderer, request: Request) -> Response:
    if "alert_num" in request.query_params:  # the address of the classic alert viewer
        return numbered_page(site, renderer, request, request.query_params["alert_num"])
    query = read_query(OverviewQuery, request)
    zone = site.page_zone(query)
    with site.lake.reading(zone) as lake:
        day = shown_day(lake, query.day)
        if day is None:
            return renderer.page("empty.html")
        days = site.lake.remembered(lake, "days", lambda: day_counts(lake))
        overview = site.lake.remembered(lake, ("overview", day), lambda: read_overview(site, lake, day))
        health = read_health(site, lake, day)
        return renderer.page("overview.html", overview=overview, health=health, days=days, zone=zone, query=query,
                             threshold=site.settings.summary_threshold or None, now=site.clock())  # fmt: skip


def _review(site: ViewedSite, renderer: Renderer, request: Request) -> Response:
    query = read_query(PageQuery, request)
    zone = site.page_zone(query)
    with site.lake.reading(zone) as lake:
        if shown_day(lake, query.day) is None:
            return renderer.page("empty.html")
        page = page_of_frames(site, lake, query, PAGE_FRAMES)
        names = site.lake.remembered(lake, ("names", *page.days), lambda: _names(site, lake, page.days))
        days = site.lake.remembered(lake, "days", lambda: day_counts(lake))
        whole = query.filters.of_whole_days
        timeline = site.lake.remembered(
            lake,
            ("timeline", page.days[0], page.days[-1], whole),
            lambda: read_timeline(lake, wanted_frames(site, lake, whole, page.days), page.days),
        )
        visitor: Visitor = request.state.visitor
        reviewed = reviewed_of(site, visitor, utc_days_of(lake, page.days))
        counts = {} if reviewed is None else count_reviewed(lake, list(reviewed.values()))
        number = None if page.day is None else _number_of(lake, page.day, query)
    return renderer.page(
        "review.html", zone=zone, number=number, page=page, timeline=timeline, query=query,
        filters=query.filters, names=names, days=days, reviewed=reviewed,
        reviewed_count=sum(counts.get(day, 0) for day in page.days), may_mark=Scope.ACKNOWLEDGE in visitor.scopes,
        back=f"/review{query.to_url()}", threshold=site.settings.summary_threshold,
    )  # fmt: skip


def _number_of(lake: LakeSession, day: date, query: FrameQuery) -> NumberQuery | None:
    """Returns the number of the stored summaries that the filters name; None if there is none."""
    if query.label is None:
        return None
    return in_utc_hours(lake, NumberQuery(day=day, label=query.label, hour=query.hour, source=query.source))


def _names(site: ViewedSite, lake: LakeSession, days: Sequence[date]) -> dict[str, list[tuple[str, int | None]]]:
    """Returns what the filters offer for some days, with how many frames or, for labels, detections each has."""
    sources = ask_session(lake, "sources", days).table.to_pylist()
    labels: Counter[str] = Counter()
    for one in counts_of(site, lake, days):
        labels[one.label] += one.count
    models = lake.query(_MODELS.format(rows_of_days(Span(days[0], days[-1]), lake.local))).rows
    try:
        zones = rules_of(site, lake).zone
    except ImgpipelineError:
        zones = ()  # who asks for a zone is told why
    return {
        "source": [(row["source"], row["frames"]) for row in sources if row["source"] is not None],
        "label": sorted(labels.items(), key=lambda label: (-label[1], label[0])),
        "zone": [(zone.name, None) for zone in zones],
        "model": [(model, frames) for model, frames in models],
    }


def _explain(site: ViewedSite, renderer: Renderer, request: Request) -> Response:
    query = read_query(NumberQuery, request)
    with site.lake.reading() as lake:
        known_day(lake, query.day)
        count = number_of(site, lake, query)
        if count > MOST_EXPLAINED:
            raise too_large(query, count)
        number = NumberId(query.day, query.hour, query.label, query.source)
        found = explain(lake, site.store, number, site.settings)
    return renderer.page("explain.html", found=found, query=query, shown=_SHOWN_DETECTIONS, run_url=site.run_url,
                         threshold=site.settings.summary_threshold or None)  # fmt: skip


def _add_frame(router: APIRouter, site: ViewedSite, renderer: Renderer) -> None:
    @router.get("/frames/{day}/{frame_id}")
    def frame_page(request: Request, day: Annotated[Day, Path()], frame_id: Annotated[FrameId, Path()]) -> Response:
        query = read_query(FrameQuery, request)
        zone = site.page_zone(query)
        with site.lake.reading(zone) as lake:
            frame = frame_row(lake, day, frame_id)
            boxes = detections_in(lake, [(day, frame_id)])[day, frame_id]
            numbers = numbers_of_frame(site, lake, day, frame_id)
            tracks = tracks_of_frame(lake, day, frame_id)
            places = _places(site, lake, frame["source"])
            listed = query.on(lake.day_of(frame["timestamp"]))
            newer, older = neighbours(lake, frame, wanted_frames(site, lake, listed, days_shown(lake, listed)))
        visitor: Visitor = request.state.visitor
        reviewed = reviewed_of(site, visitor, [day])
        lineage = _if_readable(lambda: trace_frame(site.store, frame, len(boxes)))
        annotations = _if_readable(lambda: list(annotations_of(site.store, day, frame_id)))
        return renderer.page(
            "frame.html", zone=zone, frame=frame, boxes=boxes, tracks=tracks, places=places, numbers=numbers,
            newer=newer, older=older, filters=query, listed=listed,
            lineage=lineage, run_url=site.run_url, annotations=annotations,
            may_mark=Scope.ACKNOWLEDGE in visitor.scopes,
            is_reviewed=None if reviewed is None else reviewed[day].holds(frame),
            threshold=site.settings.summary_threshold or None,
        )  # fmt: skip


def _places(site: ViewedSite, lake: LakeSession, source: str | None) -> list[Zone | Line]:
    try:
        rules = rules_of(site, lake)
    except ImgpipelineError:
        return []  # pages about rules say what is wrong with them
    places: list[Zone | Line] = [*rules.zone, *rules.line]
    return [place for place in places if place.source == source]


def _if_readable(read: Callable[[], AnswerT]) -> AnswerT | ImgpipelineError:
    """Reads from the store, which may be away, or returns why not: the rest of a page does not need the store."""
    try:
        return read()
    except ImgpipelineError as error:
        return error
