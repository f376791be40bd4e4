"""Pages about frames: the review grid with its timeline, one frame, and the proof of a count. The URL has all state."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from imgpipeline.errors import ImgpipelineError
from imgpipeline.export.annotations import annotations_of
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.explain import trace_frame
from imgpipeline.lake.query.summaries import ask_session
from imgpipeline.lake.query.tracks import tracks_of_frame
from imgpipeline.lake.query.wanted_frames import (
    DAY_S,
    WantedFrames,
    detection_condition,
    frame_condition,
    rows_of_days,
)
from imgpipeline.lake.sessions.local_time import DAY_OF_ROW
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import Visitor
from imgpipeline.web.viewer.answers import (
    counts_of,
    days_shown,
    days_with_counts,
    explain_number,
    frame_with_boxes,
    in_utc_hours,
    neighbours,
    numbers_of_frame,
    page_of_frames,
    places_of,
    rules_of,
    utc_days_of,
    wanted_frames,
)
from imgpipeline.web.viewer.queries import (
    PAGE_FRAMES,
    DayPath,
    FramePath,
    FrameQuery,
    NumberQuery,
    PageQuery,
    read_query,
)
from imgpipeline.web.viewer.responses import Renderer
from imgpipeline.web.viewer.reviewed import count_reviewed
from imgpipeline.web.viewer.reviewing import reviewed_of
from imgpipeline.web.viewer.site import ViewedSite

AnswerT = TypeVar("AnswerT")
_SHOWN_DETECTIONS = 200
_MODELS = """
SELECT model, count(*) FROM (
    SELECT unnest(list_distinct(coalesce([one.model FOR one IN detectors], []) || [model_used])) AS model
    FROM frames WHERE {}
) WHERE model IS NOT NULL GROUP BY model ORDER BY model
"""
HEIGHT = 40
"""Height of the highest bar of a timeline, in SVG units."""
MOST_DAYS = 31
"""Days of a timeline; of a longer range, only the latest days are drawn."""
_ONE_DAY_BIN_S, _SEVERAL_DAYS_BIN_S = 600, 3_600
_MOST_LABELS = 8
_PLACED = "{day} AS shown, ((((epoch_us({time}) // 1000000) % 86400) + 86400) % 86400) // {bin_s} AS bin"
_COUNT = """
SELECT {placed}, NULL AS label, count(*) AS count FROM frames WHERE {frames} AND shown >= DATE '{first}' GROUP BY ALL
UNION ALL
SELECT {placed}, label, count(*) FROM detections WHERE {detections} AND shown >= DATE '{first}' GROUP BY ALL
ORDER BY shown, bin, count DESC, label
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a timeline: the matches in one part of a day."""

    start_s: int
    """Start of the part, as second of the day."""
    end_s: int
    """End of the part, as second of the day."""
    frames: int
    """Matching frames."""
    labels: Mapping[str, int]
    """Matching detections by label, the most frequent first."""

    @property
    def detections(self) -> int:
        """Matching detections."""
        return sum(self.labels.values())

    @property
    def parts(self) -> Sequence[tuple[str | None, int]]:
        """The most frequent labels with their detections; all others are summed up under None."""
        parts = list(self.labels.items())[:_MOST_LABELS]
        rest = self.detections - sum(count for _, count in parts)
        return [*parts, (None, rest)] if rest else parts

    @property
    def time_from(self) -> str:
        """Start as text, for the URL of the review page."""
        return _clock(self.start_s)

    @property
    def time_to(self) -> str:
        """End as text."""
        return _clock(self.end_s)


@dataclass(frozen=True, slots=True)
class DayBars:
    """The bars of one day."""

    day: date
    bars: tuple[Bar, ...]
    """Bars by time, without parts that have no matching frame."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The bars of one or more days."""

    days: tuple[DayBars, ...]
    """The latest first."""
    left_out: int
    """Number of earlier days that are not drawn."""
    most: int
    """Detections of the highest bar, at least 1."""
    bin_s: int
    """Length of the part of a day that one bar covers, in seconds."""

    def height(self, count: int) -> float:
        """Returns the height of a bar with a number of detections."""
        return round(HEIGHT * count / self.most, 2)


def frame_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    router.get("/review")(partial(_review, site, renderer))
    router.get("/explain")(partial(_explain, site, renderer))
    _add_frame(router, site, renderer)
    return router


def _review(site: ViewedSite, renderer: Renderer, request: Request) -> Response:
    query = read_query(PageQuery, request)
    zone = site.page_zone(query)
    with site.lake.reading(zone) as lake:
        page = page_of_frames(site, lake, query, PAGE_FRAMES)
        names = site.lake.remembered(lake, ("names", *page.days), lambda: _names(site, lake, page.days))
        days = days_with_counts(site, lake)
        whole = query.filters.of_whole_days
        timeline = site.lake.remembered(
            lake,
            ("timeline", page.days[0], page.days[-1], whole),
            lambda: _read_timeline(lake, wanted_frames(site, lake, whole, page.days), page.days),
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
    """Returns the count of the stored summaries that the filters describe; None if they describe none."""
    if query.label is None:
        return None
    return in_utc_hours(lake, NumberQuery(day=day, label=query.label, hour=query.hour, source=query.source))


def _names(site: ViewedSite, lake: LakeSession, days: Sequence[date]) -> dict[str, list[tuple[str, int | None]]]:
    """Returns the choices of the filters for some days, with their frames or, for labels, detections."""
    sources = ask_session(lake, "sources", days).table.to_pylist()
    labels: Counter[str] = Counter()
    for one in counts_of(site, lake, days):
        labels[one.label] += one.count
    models = lake.query(_MODELS.format(rows_of_days(Span(days[0], days[-1]), lake.local))).rows
    try:
        zones = rules_of(site, lake).zone
    except ImgpipelineError:
        zones = ()  # filtering by a zone reports the error
    return {
        "source": [(row["source"], row["frames"]) for row in sources if row["source"] is not None],
        "label": sorted(labels.items(), key=lambda label: (-label[1], label[0])),
        "zone": [(zone.name, None) for zone in zones],
        "model": list(models),
    }


def _explain(site: ViewedSite, renderer: Renderer, request: Request) -> Response:
    query = read_query(NumberQuery, request)
    with site.lake.reading() as lake:
        found = explain_number(site, lake, query)
    return renderer.page("explain.html", found=found, query=query, shown=_SHOWN_DETECTIONS, run_url=site.run_url,
                         threshold=site.settings.summary_threshold or None)  # fmt: skip


def _add_frame(router: APIRouter, site: ViewedSite, renderer: Renderer) -> None:
    @router.get("/frames/{day}/{frame_id}")
    def frame_page(request: Request, day: DayPath, frame_id: FramePath) -> Response:
        query = read_query(FrameQuery, request)
        zone = site.page_zone(query)
        with site.lake.reading(zone) as lake:
            frame, boxes = frame_with_boxes(lake, day, frame_id)
            numbers = numbers_of_frame(site, lake, day, frame_id)
            tracks = tracks_of_frame(lake, day, frame_id)
            places = places_of(site, lake, frame["source"])
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


def _if_readable(read: Callable[[], AnswerT]) -> AnswerT | ImgpipelineError:
    """Reads from the store or returns the error: the rest of the page does not need the store."""
    try:
        return read()
    except ImgpipelineError as error:
        return error


def _read_timeline(lake: LakeSession, wanted: WantedFrames, days: Sequence[date]) -> Timeline:
    """Counts matching frames and detections by day, part of the day, and label.

    Args:
        lake: The session.
        wanted: The filter without a time of day, because the timeline also offers the other times.
        days: Its days, sorted.
    """
    shown = days[-MOST_DAYS:]
    bin_s = _ONE_DAY_BIN_S if len(days) == 1 else _SEVERAL_DAYS_BIN_S
    day, time = (DAY_OF_ROW, 'local_time("timestamp")') if lake.local else ("day", '"timestamp"')
    rows = lake.query(_COUNT.format(
        placed=_PLACED.format(day=day, time=time, bin_s=bin_s), first=shown[0],
        frames=frame_condition(wanted), detections=detection_condition(wanted),
    )).rows  # fmt: skip
    frames = {(day, at): count for day, at, label, count in rows if label is None}
    labels: dict[tuple[date, int], dict[str, int]] = {}
    for day, at, label, count in rows:
        if label is not None:
            labels.setdefault((day, at), {})[label] = count
    bars: dict[date, list[Bar]] = {day: [] for day in reversed(shown)}
    for (day, at), count in sorted(frames.items()):
        bars[day].append(Bar(at * bin_s, min(DAY_S, (at + 1) * bin_s), count, labels.get((day, at), {})))
    found = tuple(DayBars(day, tuple(of_day)) for day, of_day in bars.items())
    most = max((bar.detections for of_day in found for bar in of_day.bars), default=1)
    return Timeline(found, len(days) - len(shown), max(1, most), bin_s)


def _clock(second: int) -> str:
    return f"{second // 3600:02d}:{second % 3600 // 60:02d}"
