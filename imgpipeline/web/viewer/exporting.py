"""The frames of a filter as a COCO or YOLO data set, without images: `imgpipeline export` writes those too."""

import io
import zipfile
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from imgpipeline.errors import UsageError
from imgpipeline.export.formats import TrainingFormat, coco_document, yolo_data, yolo_files
from imgpipeline.export.training_frames import TrainingSet, open_training_set
from imgpipeline.lake.query.frames import list_frames
from imgpipeline.web.viewer.answers import days_shown, utc_days_of, wanted_frames
from imgpipeline.web.viewer.queries import FrameQuery
from imgpipeline.web.viewer.responses import answer_bytes
from imgpipeline.web.viewer.site import ViewedSite

MOST_FRAMES = 20_000
"""More frames are written by the command."""


class ExportQuery(FrameQuery):
    """Which frames, and how."""

    format: TrainingFormat = Field(TrainingFormat.COCO, description="`coco`: JSON. `yolo`: a zip file of texts.")
    marked: bool = Field(False, description="Only frames of which somebody said that something is wrong.")


def exporting_routes(site: ViewedSite) -> APIRouter:
    """Returns the routes.

    Args:
        site: What they read.
    """
    router = APIRouter(tags=["viewer"])

    @router.get("/api/v1/export", responses={200: {"content": {"application/zip": {}}}})
    def export(request: Request, query: Annotated[ExportQuery, Query()]) -> Response:
        """Frames with all of their boxes for training, corrected by feedback: COCO, or the texts of YOLO; no images."""
        with site.lake.reading(query.timezone) as lake:
            days = days_shown(lake, query)
            wanted = wanted_frames(site, lake, query, days)
            utc_days = utc_days_of(lake, days)
            training = open_training_set(lake, site.store, wanted, utc_days, is_marked=query.marked)
            matching = len(training.corrections) if query.marked else list_frames(lake, wanted, 1).matching
            if matching > MOST_FRAMES:
                raise UsageError(
                    f"{matching:,} frames are too many for one answer; at most {MOST_FRAMES:,} are exported.",
                    next_step=f"choose fewer, or run `imgpipeline export {query.format} FOLDER`",
                )
            if query.format is TrainingFormat.YOLO:
                return answer_bytes(request, _zipped(training), "application/zip", file_name=f"yolo-{days[-1]}.zip")
            text = io.StringIO()
            coco_document(training, text, {})
        name = f"coco-{days[-1]}.json"
        return answer_bytes(request, text.getvalue().encode(), "application/json", file_name=name)

    return router


def _zipped(training: TrainingSet) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as files:
        for name, text, _ in yolo_files(training):
            files.writestr(zipfile.ZipInfo(f"labels/{name}"), text)  # with a fixed time: the same bytes each time
        files.writestr(zipfile.ZipInfo("data.yaml"), yolo_data(training.labels))
    return packed.getvalue()
