"""Frames: the review grid with its timeline, one frame, the proof of a count, and the export.

The address of a page holds all of its state.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any, TypeVar

import pyarrow as pa
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field

from imgpipeline.errors import ImgpipelineError, UsageError
from imgpipeline.export.annotations import annotations_of
from imgpipeline.export.formats import (
    TrainingFormat,
    TrainingSet,
    coco_document,
    open_training_set,
    yolo_data,
    yolo_files,
)
from imgpipeline.lake.query.accuracy import intervals_of
from imgpipeline.lake.query.explain import Explanation, trace_frame
from imgpipeline.lake.query.frames import list_frames
from imgpipeline.lake.query.tracks import tracks_of_frame
from imgpipeline.lake.query.wanted_frames import (
    DAY_S,
    WantedFrames,
    detection_condition,
    frame_condition,
)
from imgpipeline.lake.sessions.local_time import DAY_OF_ROW
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import Visitor
from imgpipeline.web.viewer.answers import (
    FramePage,
    choices_of,
    days_shown,
    explain_number,
    frame_row,
    frame_with_boxes,
    in_utc_hours,
    neighbours,
    numbers_of_frame,
    page_of_frames,
    places_of,
    utc_days_of,
    wanted_frames,
)
from imgpipeline.web.viewer.queries import (
    PAGE_FRAMES,
    DayPath,
    FramePath,
    FrameQuery,
    FramesQuery,
    NumberQuery,
    PageQuery,
)
from imgpipeline.web.viewer.responses import PICTURES, Pages, answer_bytes, answer_json, fields_of
from imgpipeline.web.viewer.reviewed import count_reviewed
from imgpipeline.web.viewer.reviewing import reviewed_of
from imgpipeline.web.viewer.site import Site
from imgpipeline.web.viewer.views import Asked, View, add_views

AnswerT = TypeVar("AnswerT")
_SHOWN_DETECTIONS = 200
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


MOST_EXPORTED = 20_000
"""Frames of an export; the command `imgpipeline export` has no limit."""
_CSV_COLUMNS = ("day", "timestamp", "source", "frame_id", "status", "file", "size_bytes", "image_width", "image_height",
                "detections", "source_image_path")  # fmt: skip


class ExportQuery(FrameQuery):
    """Frames to export, and their format."""

    format: TrainingFormat = Field(TrainingFormat.COCO, description="`coco`: JSON. `yolo`: a zip file of text files.")
    marked: bool = Field(False, description="Only frames with feedback about a wrong or missing detection.")


def _frames(asked: Asked) -> FramePage:
    return page_of_frames(asked.site, asked.lake, asked.query, PAGE_FRAMES if asked.is_page else asked.query.limit)


def _review_page(asked: Asked, page: FramePage) -> Mapping[str, Any]:
    site, lake, query, visitor = asked.site, asked.lake, asked.query, asked.visitor
    whole = query.filters.of_whole_days
    timeline = asked.remembered(
        ("timeline", page.days[0], page.days[-1], whole),
        lambda: _read_timeline(lake, wanted_frames(site, lake, whole, page.days), page.days),
    )
    reviewed = reviewed_of(site, visitor, utc_days_of(lake, page.days))
    counts = {} if reviewed is None else count_reviewed(lake, list(reviewed.values()))
    of_days = page.number is not None and query.hour is None
    counted = [{"label": query.label, "count": page.number}] if of_days else []
    intervals = intervals_of(lake, counted, ("label",), page.days, [query.source] if query.source else [])
    return {
        "number": None if page.day is None else _number_of(lake, page.day, query), "page": page, "timeline": timeline,
        "interval": next(iter(intervals), None),
        "names": choices_of(site, lake, page.days),
        "filters": query.filters, "days": asked.days, "reviewed": reviewed,
        "reviewed_count": sum(counts.get(day, 0) for day in page.days), "may_mark": Scope.ACKNOWLEDGE in visitor.scopes,
        "back": f"/review{query.to_url()}", "threshold": site.settings.summary_threshold,
    }  # fmt: skip


def _frames_document(_asked: Asked, page: FramePage) -> Mapping[str, Any]:
    return {
        "day": page.day, "days": page.days, "matching": page.matching, "detections": page.detections,
        "number": page.number, "newer": page.newer, "older": page.older, "frames": page.frames,
    }  # fmt: skip


def _frames_table(_asked: Asked, page: FramePage) -> tuple[str, pa.Table]:
    return f"frames-{'-to-'.join(map(str, dict.fromkeys((page.days[0], page.days[-1]))))}", page.table


_REVIEW = View(
    "/review", PageQuery, _frames, _review_page, _frames_document,
    "Lists frames with their detections, the latest first. `older` and `newer` are cursors of other pages.",
    api="/frames", api_query=FramesQuery, table=_frames_table, csv_columns=_CSV_COLUMNS,
)  # fmt: skip


def _number_of(lake: LakeSession, day: date, query: FrameQuery) -> NumberQuery | None:
    """Returns the count of the stored summaries that the filters describe; None if they describe none."""
    if query.label is None:
        return None
    return in_utc_hours(lake, NumberQuery(day=day, label=query.label, hour=query.hour, source=query.source))


def _explain_page(asked: Asked, found: Explanation) -> Mapping[str, Any]:
    threshold = asked.site.settings.summary_threshold or None
    return {"found": found, "shown": _SHOWN_DETECTIONS, "run_url": asked.site.run_url, "threshold": threshold}


_EXPLAIN = View(
    "/explain", NumberQuery, lambda asked: explain_number(asked.site, asked.lake, asked.query), _explain_page,
    lambda _, found: found.to_json(),
    "Traces a count to its detections, frames and segments, as `imgpipeline explain` does.",
)  # fmt: skip


router = APIRouter(tags=["viewer"])
add_views(router, _EXPLAIN, _REVIEW)


@router.get("/api/v1/export", responses={200: {"content": {"application/zip": {}}}})
def export(request: Request, site: Site, query: Annotated[ExportQuery, Query()]) -> Response:
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


@router.get("/frames/{day}/{frame_id}", include_in_schema=False, response_class=HTMLResponse)
def frame_page(
    request: Request, site: Site, pages: Pages, day: DayPath, frame_id: FramePath, query: Annotated[FrameQuery, Query()]
) -> Response:
    """Shows one frame."""
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
    return pages.page(
        "frame.html", zone=zone, frame=frame, boxes=boxes, tracks=tracks, places=places, numbers=numbers,
        newer=newer, older=older, filters=query, listed=listed,
        lineage=lineage, run_url=site.run_url, annotations=annotations,
        may_mark=Scope.ACKNOWLEDGE in visitor.scopes,
        is_reviewed=None if reviewed is None else reviewed[day].holds(frame),
        threshold=site.settings.summary_threshold or None,
    )  # fmt: skip


@router.get("/api/v1/frames/{day}/{frame_id}")
def frame(request: Request, site: Site, day: DayPath, frame_id: FramePath) -> Response:
    """Returns one frame with its detections."""
    with site.lake.reading() as lake:
        row, boxes = frame_with_boxes(lake, day, frame_id)
    return answer_json(request, {"frame": row, "detections": boxes})


@router.get("/api/v1/frames/{day}/{frame_id}/lineage")
def lineage(request: Request, site: Site, day: DayPath, frame_id: FramePath) -> Response:
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


@router.get("/api/v1/frames/{day}/{frame_id}/image", response_class=Response, responses=PICTURES)
def image(request: Request, site: Site, day: DayPath, frame_id: FramePath) -> Response:
    """Returns the stored image, converted to JPEG if browsers do not support its format."""
    with site.lake.reading() as lake:
        row = frame_row(lake, day, frame_id)
    found = site.pictures.image(row)
    return answer_bytes(request, found.data, found.media_type, e_tag=found.e_tag, is_lasting=True)


@router.get("/api/v1/frames/{day}/{frame_id}/thumbnail", response_class=Response, responses=PICTURES)
def thumbnail(request: Request, site: Site, day: DayPath, frame_id: FramePath) -> Response:
    """Returns a small JPEG of the image that is currently stored."""
    with site.lake.reading() as lake:
        row = frame_row(lake, day, frame_id)
    found = site.pictures.thumbnail(row)
    return answer_bytes(request, found.data, found.media_type, e_tag=found.e_tag)


def _if_readable(read: Callable[[], AnswerT]) -> AnswerT | ImgpipelineError:
    """Reads from the store or returns the error: the rest of the page does not need the store."""
    try:
        return read()
    except ImgpipelineError as error:
        return error


def _read_timeline(lake: LakeSession, wanted: WantedFrames, days: Sequence[date]) -> Mapping[str, Any]:
    """Counts matching frames and detections by day, part of the day, and label; the latest day is first.

    The filter has no time of day, because the timeline also offers the other times.
    """
    shown = days[-MOST_DAYS:]
    bin_s = _ONE_DAY_BIN_S if len(days) == 1 else _SEVERAL_DAYS_BIN_S
    day, time = (DAY_OF_ROW, 'local_time("timestamp")') if lake.local else ("day", '"timestamp"')
    rows = lake.query(_COUNT.format(
        placed=_PLACED.format(day=day, time=time, bin_s=bin_s), first=shown[0],
        frames=frame_condition(wanted), detections=detection_condition(wanted),
    )).rows  # fmt: skip
    labels: dict[tuple[date, int], list[tuple[str, int]]] = {}
    for day, at, label, count in rows:
        if label is not None:
            labels.setdefault((day, at), []).append((label, count))
    bars: dict[date, list[Mapping[str, Any]]] = {day: [] for day in reversed(shown)}
    for day, at, label, frames in rows:
        if label is None:
            of_bar = labels.get((day, at), [])
            bars[day].append(_bar(at * bin_s, min(DAY_S, (at + 1) * bin_s), frames, of_bar))
    most = max((bar["detections"] for of_day in bars.values() for bar in of_day), default=1)
    return {"days": list(bars.items()), "left_out": len(days) - len(shown), "most": max(1, most)}


def _bar(start_s: int, end_s: int, frames: int, labels: Sequence[tuple[str, int]]) -> Mapping[str, Any]:
    """Returns the matches in a part of a day; all but the most frequent labels are summed up under None."""
    rest = sum(count for _, count in labels[_MOST_LABELS:])
    return {
        "start_s": start_s, "end_s": end_s, "time_from": _clock(start_s), "time_to": _clock(end_s), "frames": frames,
        "detections": sum(count for _, count in labels),
        "parts": [*labels[:_MOST_LABELS], *([(None, rest)] if rest else [])],
    }  # fmt: skip


def _clock(second: int) -> str:
    return f"{second // 3600:02d}:{second % 3600 // 60:02d}"
