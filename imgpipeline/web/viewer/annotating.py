"""Feedback about wrong detections and missing objects, by forms on the page of a frame and by the API."""

import math
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field

from imgpipeline.errors import UsageError
from imgpipeline.export.annotations import Annotation, Mistake, annotations_of, keep, new_id, withdraw
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import Visitor, allowed
from imgpipeline.web.viewer.answers import frame_with_boxes
from imgpipeline.web.viewer.queries import (
    MOST_FORM_BYTES,
    DayPath,
    DayQuery,
    FrameId,
    FramePath,
    Given,
    Name,
    Note,
    Splits,
)
from imgpipeline.web.viewer.site import Site, ViewedSite
from imgpipeline.web.viewer.views import View, add_views

AnnotationPath = Annotated[FrameId, Path(description="Id of the annotation.")]


class AnnotationBody(Given):
    """Feedback about a frame."""

    mistake: Mistake = Field(description="`wrong`: a detection is wrong. `missing`: an object was not detected.")
    detection_number: int | None = Field(None, ge=0, description="Number of the wrong detection in `detections`.")
    label: Name | None = Field(None, description="Label of the missing object.")
    box: Annotated[Annotated[list[float], Field(min_length=4, max_length=4)] | None, Splits] = Field(
        None, description="Box of the missing object: x, y, width and height in pixels of the original image."
    )
    note: Note = Field("", description="A comment.")


router = APIRouter(tags=["viewer"])
add_views(router, View(
    "/feedback", DayQuery, lambda asked: list(annotations_of(asked.site.store, asked.day)),
    lambda asked, found: {"day": asked.day, "days": asked.days, "annotations": found},
    lambda asked, found: {"day": asked.day, "annotations": [one.to_json() for one in found]},
    "Lists the feedback about the frames of a day, including withdrawn feedback.", api="/annotations",
))  # fmt: skip


@router.post("/api/v1/frames/{day}/{frame_id}/annotations", status_code=201)
def annotate(request: Request, site: Site, day: DayPath, frame_id: FramePath, body: AnnotationBody) -> dict[str, Any]:
    """Reports a wrong detection or a missing object. Counts do not change."""
    return _keep(site, allowed(request, Scope.ACKNOWLEDGE), day, frame_id, body).to_json()


@router.post("/api/v1/frames/{day}/{frame_id}/annotations/{annotation_id}/withdrawal")
def withdraw_annotation(
    request: Request, site: Site, day: DayPath, frame_id: FramePath, annotation_id: AnnotationPath
) -> dict[str, Any]:
    """Withdraws feedback. It stays stored, with the name of the caller."""
    by = allowed(request, Scope.ACKNOWLEDGE).name
    return withdraw(site.store, day, frame_id, annotation_id, by=by, at=site.clock()).to_json()


@router.post("/frames/{day}/{frame_id}/annotate", include_in_schema=False, max_body_size=MOST_FORM_BYTES)
def annotate_by_form(
    request: Request, site: Site, day: DayPath, frame_id: FramePath, body: Annotated[AnnotationBody, Form()]
) -> Response:
    """Reports a mistake from the page of the frame."""
    annotate(request, site, day, frame_id, body)
    return RedirectResponse(f"/frames/{day}/{frame_id}?{request.url.query}#feedback", 303)


@router.post("/frames/{day}/{frame_id}/annotations/{annotation_id}/withdraw", include_in_schema=False)
def withdraw_by_form(
    request: Request, site: Site, day: DayPath, frame_id: FramePath, annotation_id: AnnotationPath
) -> Response:
    """Withdraws feedback from the page of the frame."""
    withdraw_annotation(request, site, day, frame_id, annotation_id)
    return RedirectResponse(f"/frames/{day}/{frame_id}?{request.url.query}#feedback", 303)


def _keep(site: ViewedSite, visitor: Visitor, day: date, frame_id: str, body: AnnotationBody) -> Annotation:
    with site.lake.reading() as lake:
        frame, boxes = frame_with_boxes(lake, day, frame_id)
    found = {row["detection_number"]: row for row in boxes}
    if body.mistake is Mistake.WRONG:
        label, box, number = _wrong(found, body)
    else:
        (label, box), number = _missing(frame, body), None
    given = Annotation(new_id(), day, frame_id, body.mistake, label, box, number, body.note, visitor.name, site.clock())
    keep(site.store, given)
    return given


def _wrong(
    found: Mapping[int, Mapping[str, Any]], body: AnnotationBody
) -> tuple[str, tuple[float, float, float, float] | None, int]:
    if body.label is not None or body.box is not None:
        raise UsageError("A wrong detection takes no label or box.", next_step="give only its detection_number")
    if body.detection_number is None or body.detection_number not in found:
        numbers = ", ".join(map(str, found)) or "none"
        raise UsageError("The detection_number is missing or not in this frame.", next_step=f"give one of {numbers}")
    row = found[body.detection_number]
    box = None if row["x"] is None else (row["x"], row["y"], row["width"], row["height"])
    return row["label"], box, body.detection_number


def _missing(frame: Mapping[str, Any], body: AnnotationBody) -> tuple[str, tuple[float, float, float, float]]:
    if body.detection_number is not None or body.label is None or body.box is None:
        raise UsageError(
            "A missing object needs a label and a box.", next_step="give label and box, and no detection_number"
        )
    x, y, width, height = body.box
    across, down = frame["image_width"] or math.inf, frame["image_height"] or math.inf
    if not (width > 0 and height > 0 and x >= 0 and y >= 0 and x + width <= across and y + height <= down):
        raise UsageError(
            f"The box {body.box} is not inside the image of {frame['image_width']} x {frame['image_height']} pixels.",
            next_step="give x, y, width and height in pixels of the image",
        )
    return body.label, (x, y, width, height)
