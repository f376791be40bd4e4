"""The API `/api/v1`: everything that the pages show, as JSON, CSV or Arrow, with e-tags and cursors."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from imgpipeline.lake.lineage.explain import explain
from imgpipeline.lake.lineage.explanation import NumberId
from imgpipeline.lake.lineage.frame_lineage import trace_frame
from imgpipeline.lake.query.frames import detections_in
from imgpipeline.lake.query.summaries import LabelChoice, ask_session
from imgpipeline.web.viewer.answers import (
    day_counts,
    frame_row,
    known_day,
    number_of,
    numbers_of_frame,
    page_of_frames,
    statuses_of,
)
from imgpipeline.web.viewer.queries import CountQuery, Day, FrameId, FramesQuery, NumberQuery, Zoned
from imgpipeline.web.viewer.responses import PICTURES, TABLES, answer_arrow, answer_bytes, answer_csv, answer_json
from imgpipeline.web.viewer.site import MOST_EXPLAINED, ViewedSite, too_large

DayPath = Annotated[Day, Path(description="UTC day, such as 2026-01-09.")]
FramePath = Annotated[FrameId, Path(description="The frame's id.")]
_CSV_COLUMNS = ("day", "timestamp", "source", "frame_id", "status", "file", "size_bytes", "image_width", "image_height",
                "detections", "source_image_path")  # fmt: skip


def api_routes(site: ViewedSite) -> APIRouter:
    """Returns the routes.

    Args:
        site: What they read.
    """
    router = APIRouter(prefix="/api/v1", tags=["viewer"])
    _add_overview(router, site)
    _add_numbers(router, site)
    _add_frames(router, site)
    _add_frame(router, site)
    _add_pictures(router, site)
    return router


def _add_overview(router: APIRouter, site: ViewedSite) -> None:
    @router.get("/status")
    def status(request: Request) -> Response:
        """When the tables that are shown were read, and whether the store answers."""
        return answer_json(request, site.status())

    @router.get("/days")
    def days(request: Request, query: Annotated[Zoned, Query()]) -> Response:
        """The days with data, the latest first, with frames and detections."""
        with site.lake.reading(query.timezone) as lake:
            return answer_json(request, {"snapshot": site.lake.state.taken_at, "days": day_counts(lake)})

    @router.get("/sources")
    def sources(request: Request) -> Response:
        """How each source of the last 30 days is: state, last frame, rate, and today's accounts."""
        with site.lake.reading() as lake:
            found = statuses_of(site, lake)
        return answer_json(request, {"sources": [{n: getattr(s, n) for n in s.__slots__} for s in found]})


def _add_numbers(router: APIRouter, site: ViewedSite) -> None:
    @router.get("/label-counts", responses=TABLES)
    def label_counts(request: Request, query: Annotated[CountQuery, Query()]) -> Response:
        """How many of which label were seen on a day, by hour, source or label."""
        sources, labels = ((name,) if name else () for name in (query.source, query.label))
        choice = LabelChoice(sources, labels, tuple(query.by.split(",")))
        with site.lake.reading(query.timezone) as lake:
            day = known_day(lake, query.day)
            table = site.lake.remembered(
                lake, ("label_counts", day, choice), lambda: ask_session(lake, "label_counts", [day], choice).table
            )
        if query.format == "arrow":
            return answer_arrow(request, f"label-counts-{day}", table)
        rows = table.to_pylist()
        if query.format == "csv":
            return answer_csv(request, f"label-counts-{day}", table.column_names, [list(row.values()) for row in rows])
        return answer_json(request, {"day": day, "counts": rows})

    @router.get("/explain")
    def explain_number(request: Request, query: Annotated[NumberQuery, Query()]) -> Response:
        """Traces a number to its detections, frames and segments, as `imgpipeline explain` does."""
        with site.lake.reading() as lake:
            known_day(lake, query.day)
            count = number_of(site, lake, query)
            if count > MOST_EXPLAINED:
                raise too_large(query, count)
            number = NumberId(query.day, query.hour, query.label, query.source)
            return answer_json(request, explain(lake, site.store, number, site.settings).to_json())


def _add_frames(router: APIRouter, site: ViewedSite) -> None:
    @router.get("/frames", responses=TABLES)
    def frames(request: Request, query: Annotated[FramesQuery, Query()]) -> Response:
        """Frames of one day or several, the latest first, with their detections. `older` and `newer` are cursors."""
        with site.lake.reading(query.timezone) as lake:
            page = page_of_frames(site, lake, query, query.limit)
        name = f"frames-{'-to-'.join(map(str, dict.fromkeys((page.days[0], page.days[-1]))))}"
        if query.format == "arrow":
            return answer_arrow(request, name, page.table)
        if query.format == "csv":
            return answer_csv(
                request, name, _CSV_COLUMNS, ([row[column] for column in _CSV_COLUMNS] for row in page.frames)
            )
        return answer_json(request, {
            "day": page.day, "days": page.days, "matching": page.matching, "detections": page.detections,
            "number": page.number, "newer": page.newer, "older": page.older, "frames": page.frames,
        })  # fmt: skip


def _add_frame(router: APIRouter, site: ViewedSite) -> None:
    @router.get("/frames/{day}/{frame_id}")
    def frame(request: Request, day: DayPath, frame_id: FramePath) -> Response:
        """One frame with its detections."""
        with site.lake.reading() as lake:
            row = frame_row(lake, day, frame_id)
            boxes = detections_in(lake, [(day, frame_id)])[day, frame_id]
        return answer_json(request, {"frame": row, "detections": boxes})

    @router.get("/frames/{day}/{frame_id}/lineage")
    def lineage(request: Request, day: DayPath, frame_id: FramePath) -> Response:
        """Where a frame comes from, and the numbers that count it. The segment is read and compared with the tables."""
        with site.lake.reading() as lake:
            row = frame_row(lake, day, frame_id)
            boxes = detections_in(lake, [(day, frame_id)])[day, frame_id]
            numbers = numbers_of_frame(site, lake, day, frame_id)
        found = trace_frame(site.store, row, len(boxes))
        segment = {n: getattr(found.segment, n) for n in found.segment.__slots__ if n not in ("chain", "detections")}
        document: dict[str, Any] = {
            "topic": found.chain.topic, "topic_id": found.chain.topic_id, "partition": found.chain.partition,
            "offset": found.offset,
            "segment": segment,
            "numbers": [{n: getattr(one, n) for n in one.__slots__} for one in numbers],
        }  # fmt: skip
        return answer_json(request, document)


def _add_pictures(router: APIRouter, site: ViewedSite) -> None:
    @router.get("/frames/{day}/{frame_id}/image", response_class=Response, responses=PICTURES)
    def image(request: Request, day: DayPath, frame_id: FramePath) -> Response:
        """The stored image; one that browsers do not show, as a JPEG."""
        with site.lake.reading() as lake:
            row = frame_row(lake, day, frame_id)
        found = site.pictures.image(row)
        return answer_bytes(request, found.data, found.media_type, e_tag=found.e_tag, is_lasting=True)

    @router.get("/frames/{day}/{frame_id}/thumbnail", response_class=Response, responses=PICTURES)
    def thumbnail(request: Request, day: DayPath, frame_id: FramePath) -> Response:
        """A small JPEG of the image as it is in the store now, made once."""
        with site.lake.reading() as lake:
            row = frame_row(lake, day, frame_id)
        found = site.pictures.thumbnail(row)
        return answer_bytes(request, found.data, found.media_type, e_tag=found.e_tag)
