"""The API `/api/v1` for frames, numbers and the server's status, as JSON, CSV or Arrow, with e-tags and cursors.

Other routes of the API are next to the pages with the same content.
"""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.types import Receive, Scope, Send

from imgpipeline.contracts.text import plain
from imgpipeline.errors import UsageError
from imgpipeline.export.formats import (
    TrainingFormat,
    TrainingSet,
    coco_document,
    open_training_set,
    yolo_data,
    yolo_files,
)
from imgpipeline.lake.query.explain import trace_frame
from imgpipeline.lake.query.frames import list_frames
from imgpipeline.lake.query.summaries import LabelChoice, ask_session
from imgpipeline.web.viewer.answers import (
    day_counts,
    days_shown,
    explain_number,
    frame_row,
    frame_with_boxes,
    known_day,
    numbers_of_frame,
    page_of_frames,
    utc_days_of,
    wanted_frames,
)
from imgpipeline.web.viewer.queries import (
    CountQuery,
    DayPath,
    FramePath,
    FrameQuery,
    FramesQuery,
    NumberQuery,
    Zoned,
)
from imgpipeline.web.viewer.responses import (
    PICTURES,
    TABLES,
    answer_arrow,
    answer_bytes,
    answer_csv,
    answer_json,
    fields_of,
)
from imgpipeline.web.viewer.site import ViewedSite

MOST_STREAMS = 64
"""Clients of `/changes` at the same time; fewer than the server's connections, so that pages always answer."""
HEARTBEAT_S = 15.0
"""Shorter than the time after which proxies close a quiet connection."""
_RECONNECT_MS = 2_000
_LOOK_S = 0.25
_LONGEST_S = 600.0
"""Clients reconnect after this time, so that their API key is checked again."""
MOST_EXPORTED = 20_000
"""Frames of an export; the command `imgpipeline export` has no limit."""
_CSV_COLUMNS = ("day", "timestamp", "source", "frame_id", "status", "file", "size_bytes", "image_width", "image_height",
                "detections", "source_image_path")  # fmt: skip


class ExportQuery(FrameQuery):
    """Frames to export, and their format."""

    format: TrainingFormat = Field(TrainingFormat.COCO, description="`coco`: JSON. `yolo`: a zip file of text files.")
    marked: bool = Field(False, description="Only frames with feedback about a wrong or missing detection.")


def api_routes(site: ViewedSite) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(prefix="/api/v1", tags=["viewer"])
    _add_status(router, site)
    _add_numbers(router, site)
    _add_frames(router, site)
    _add_frame(router, site)
    _add_pictures(router, site)
    return router


def _add_status(router: APIRouter, site: ViewedSite) -> None:
    streams = _Streams()

    @router.get("/status")
    def status(request: Request) -> Response:
        """Returns when the tables on the pages were read, and whether the store answers."""
        return answer_json(request, site.status())

    @router.get("/changes", response_class=StreamingResponse)
    async def changes() -> StreamingResponse:
        """Streams the document of `/status` now and at each change, as server-sent events named `status`."""
        if streams.open >= MOST_STREAMS:
            raise HTTPException(503, f"{MOST_STREAMS} clients are connected already; poll /api/v1/status instead")
        streams.open += 1
        return _EventStream(status_events(site), streams)


@dataclass(slots=True)
class _Streams:
    """Number of connected clients."""

    open: int = 0


class _EventStream(StreamingResponse):
    """Server-sent events (WHATWG HTML, section 9.2). The stream frees its place however it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], streams: _Streams) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1


async def status_events(site: ViewedSite, *, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[str]:
    """Yields the events of one client until the server stops or the client has to reconnect.

    Args:
        site: The site.
        heartbeat_s: Seconds without an event after which a comment is sent.
    """
    yield f"retry: {_RECONNECT_MS}\n\n"
    sent: dict[str, Any] | None = None
    began_s = sent_s = monotonic()
    while not site.stopping.is_set() and monotonic() - began_s < _LONGEST_S:
        status = site.status()
        if status != sent:
            yield f"event: status\nid: {status['revision']}\ndata: {json.dumps(plain(status))}\n\n"
            sent, sent_s = status, monotonic()
        elif monotonic() - sent_s > heartbeat_s:
            yield ": nothing new\n\n"
            sent_s = monotonic()
        await asyncio.sleep(_LOOK_S)


def _add_numbers(router: APIRouter, site: ViewedSite) -> None:
    @router.get("/days")
    def days(request: Request, query: Annotated[Zoned, Query()]) -> Response:
        """Lists the days with data, the latest first, with their number of frames and detections."""
        with site.lake.reading(query.timezone) as lake:
            return answer_json(request, {"snapshot": site.lake.state.taken_at, "days": day_counts(lake)})

    @router.get("/label-counts", responses=TABLES)
    def label_counts(request: Request, query: Annotated[CountQuery, Query()]) -> Response:
        """Counts the detections of a day by label, hour or source."""
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
    def explain(request: Request, query: Annotated[NumberQuery, Query()]) -> Response:
        """Traces a count to its detections, frames and segments, as `imgpipeline explain` does."""
        with site.lake.reading() as lake:
            return answer_json(request, explain_number(site, lake, query).to_json())


def _add_frames(router: APIRouter, site: ViewedSite) -> None:
    @router.get("/frames", responses=TABLES)
    def frames(request: Request, query: Annotated[FramesQuery, Query()]) -> Response:
        """Lists frames with their detections, the latest first. `older` and `newer` are cursors of other pages."""
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

    @router.get("/export", responses={200: {"content": {"application/zip": {}}}})
    def export(request: Request, query: Annotated[ExportQuery, Query()]) -> Response:
        """Exports frames with all of their boxes, corrected by feedback, in COCO or YOLO format without images."""
        with site.lake.reading(query.timezone) as lake:
            days = days_shown(lake, query)
            wanted = wanted_frames(site, lake, query, days)
            training = open_training_set(lake, site.store, wanted, utc_days_of(lake, days), is_marked=query.marked)
            matching = len(training.corrections) if query.marked else list_frames(lake, wanted, 1).matching
            if matching > MOST_EXPORTED:
                raise UsageError(
                    f"{matching:,} frames are too many for one response; the limit is {MOST_EXPORTED:,}.",
                    next_step=f"choose fewer, or run `imgpipeline export {query.format} FOLDER`",
                )
            if query.format is TrainingFormat.YOLO:
                return answer_bytes(request, _zipped(training), "application/zip", file_name=f"yolo-{days[-1]}.zip")
            text = io.StringIO()
            coco_document(training, text, {})
        name = f"coco-{days[-1]}.json"
        return answer_bytes(request, text.getvalue().encode(), "application/json", file_name=name)


def _zipped(training: TrainingSet) -> bytes:
    """Returns the text files of a YOLO data set as a zip file; fixed times make it reproducible."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as files:
        for name, text, _ in yolo_files(training):
            files.writestr(zipfile.ZipInfo(f"labels/{name}"), text)
        files.writestr(zipfile.ZipInfo("data.yaml"), yolo_data(training.labels))
    return packed.getvalue()


def _add_frame(router: APIRouter, site: ViewedSite) -> None:
    @router.get("/frames/{day}/{frame_id}")
    def frame(request: Request, day: DayPath, frame_id: FramePath) -> Response:
        """Returns one frame with its detections."""
        with site.lake.reading() as lake:
            row, boxes = frame_with_boxes(lake, day, frame_id)
        return answer_json(request, {"frame": row, "detections": boxes})

    @router.get("/frames/{day}/{frame_id}/lineage")
    def lineage(request: Request, day: DayPath, frame_id: FramePath) -> Response:
        """Returns the origin of a frame, compared with its segment, and the counts that include it."""
        with site.lake.reading() as lake:
            row, boxes = frame_with_boxes(lake, day, frame_id)
            numbers = numbers_of_frame(site, lake, day, frame_id)
        found = trace_frame(site.store, row, len(boxes))
        document: dict[str, Any] = {
            "topic": found.chain.topic, "topic_id": found.chain.topic_id, "partition": found.chain.partition,
            "offset": found.offset,
            "segment": fields_of(found.segment, without=("chain", "detections")),
            "numbers": [fields_of(one) for one in numbers],
        }  # fmt: skip
        return answer_json(request, document)


def _add_pictures(router: APIRouter, site: ViewedSite) -> None:
    @router.get("/frames/{day}/{frame_id}/image", response_class=Response, responses=PICTURES)
    def image(request: Request, day: DayPath, frame_id: FramePath) -> Response:
        """Returns the stored image, converted to JPEG if browsers do not support its format."""
        with site.lake.reading() as lake:
            row = frame_row(lake, day, frame_id)
        found = site.pictures.image(row)
        return answer_bytes(request, found.data, found.media_type, e_tag=found.e_tag, is_lasting=True)

    @router.get("/frames/{day}/{frame_id}/thumbnail", response_class=Response, responses=PICTURES)
    def thumbnail(request: Request, day: DayPath, frame_id: FramePath) -> Response:
        """Returns a small JPEG of the image that is currently stored."""
        with site.lake.reading() as lake:
            row = frame_row(lake, day, frame_id)
        found = site.pictures.thumbnail(row)
        return answer_bytes(request, found.data, found.media_type, e_tag=found.e_tag)
