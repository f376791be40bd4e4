"""The page on which people count the frames of a plan, which says how far the detector's counts are from the truth."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field

from imgpipeline.accuracy.answers import Answer, answered, check_answer, keep_answer, read_answers
from imgpipeline.accuracy.plans import Plan, plan_command, read_plan, read_plans
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.events.accuracy import measure_plan
from imgpipeline.events.configuration import Line
from imgpipeline.events.slices import LEAD_IN, read_clip
from imgpipeline.lake.days.measuring import WHOLE_DAY, AccuracyRow
from imgpipeline.lake.query.frames import detections_in
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import THIS_MACHINE, Visitor, allowed
from imgpipeline.web.viewer.queries import DayPath, DayQuery, Given, Name, UrlQuery
from imgpipeline.web.viewer.responses import Pages, answer_json
from imgpipeline.web.viewer.site import Site, ViewedSite
from imgpipeline.web.viewer.views import Asked, View, add_views

Author = Annotated[Name, Field(max_length=200)]
SampleId = Annotated[str, Field(pattern=r"^([0-9a-f]{32}|[0-9]{8}T[0-9]{6}Z)$")]
_FRAMES = """
SELECT frame_id, image_width, image_height FROM frames
WHERE day = $day AND status = 'processed' AND list_contains($samples, frame_id)
"""


class CountingQuery(UrlQuery):
    """A plan, and the person who counts its frames."""

    source: Name = Field(description="The source.")
    line: Name | None = Field(None, description="The line whose crossings people count in slices of time.")
    by: Author | None = Field(None, description="The person, where nobody has to log in; otherwise the caller.")
    limit: int = Field(6, ge=1, le=1000, description="Maximum number of `frames` that are left; `left` has all.")
    back: int = Field(0, ge=0, le=1000, description="Maximum number of `frames` that the person has counted.")


class AnswerBody(Given):
    """What a person counted on a frame."""

    source: Name = Field(description="The source.")
    line: Name | None = Field(None, description="The line whose crossings the person counted.")
    frame_id: SampleId = Field(description="The sample of the plan: a frame, or the start of a slice of time.")
    by: Author | None = Field(None, description="The person, where nobody has to log in; otherwise the caller.")
    counts: dict[Name, Annotated[int, Field(ge=0, lt=100_000)]] = Field(
        default={}, description="The number of objects of each label of the plan; empty with `cannot_tell`."
    )
    cannot_tell: bool = Field(False, description="The image does not show how many there are.")
    wrong: list[Annotated[int, Field(ge=0)]] = Field(
        default=[], max_length=10_000, description="`detection_number` of each wrong detection."
    )
    missing: list[tuple[Name, float, float]] = Field(
        default=[], max_length=10_000, description="Label, x and y in pixels of each object that was not detected."
    )


def _plans(asked: Asked) -> list[tuple[Plan, int, list[AccuracyRow]]]:
    """Returns the plans of a day, each with the number of its samples with an answer, and the estimates so far."""
    store, found = asked.site.store, []
    for plan in read_plans(store, asked.day):
        rows = measure_plan(store, asked.site.settings, asked.lake.rows, plan)
        found.append((plan, len(answered(store, plan)), [row for row in rows if row.part == WHOLE_DAY]))
    return found


router = APIRouter(tags=["viewer"])
add_views(router, View(
    "/count", DayQuery, _plans, lambda asked, found: {"day": asked.day, "days": asked.days, "plans": found},
))  # fmt: skip


@router.get("/count/{day}", include_in_schema=False, response_class=HTMLResponse)
def counting_page(
    request: Request, site: Site, pages: Pages, day: DayPath, query: Annotated[CountingQuery, Query()]
) -> Response:
    """Shows the frames of a plan one after another."""
    plan = _plan_of(site, day, query.source, query.line)
    visitor: Visitor = request.state.visitor
    return pages.page(
        "counting.html", plan=plan, by=None if visitor is THIS_MACHINE else visitor.name,
        may_count=Scope.ACKNOWLEDGE in visitor.scopes, threshold=site.settings.summary_threshold or None,
        line=Line.model_validate(plan.line) if plan.line else None, lead_in_s=LEAD_IN.seconds,
    )  # fmt: skip


@router.get("/api/v1/count/{day}")
def samples(request: Request, site: Site, day: DayPath, query: Annotated[CountingQuery, Query()]) -> Response:
    """Lists the frames that are left for a person, in the order to count them, and describes the first of them.

    Blind frames come without boxes and without the detector's counts. A slice of time comes with its frames. Before
    them come the last frames that the person has counted, each with its `answer`, if `back` asks for them.
    """
    plan, by = _plan_of(site, day, query.source, query.line), _author(request.state.visitor, query.by)
    given = read_answers(site.store, day, plan.source, plan.line_name)
    own = {one.frame_id: one for one in sorted(given, key=lambda one: one.at) if one.by == by}
    with site.lake.reading() as lake:
        sizes = {row[0]: row[1:] for row in lake.rows(_FRAMES, {"day": day, "samples": list(plan.samples)})}
        counted, left = (
            [one for one in several if plan.line or one in sizes] for several in (own, _left_for(plan, given, by))
        )
        shown = [*counted[max(0, len(counted) - query.back) :], *left[: query.limit]]
        if plan.line:
            frames = [_clip(lake, plan, one) for one in shown]
        else:
            boxes, threshold = detections_in(lake, [(day, one) for one in shown]), site.settings.summary_threshold
            frames = [_described(plan, one, sizes[one], boxes[day, one], threshold) for one in shown]
    for frame in frames:
        frame["answer"] = own[frame["frame_id"]].to_json() if frame["frame_id"] in own else None
    return answer_json(request, {"samples": len(plan.samples), "left": left, "frames": frames})


@router.post("/api/v1/count/{day}", status_code=201)
def answer(request: Request, site: Site, day: DayPath, body: AnswerBody) -> dict[str, Any]:
    """Stores what a person counted on a frame. The newest answer of a person counts, and earlier ones stay stored."""
    by = _author(allowed(request, Scope.ACKNOWLEDGE), body.by)
    plan = _plan_of(site, day, body.source, body.line)
    given = Answer(
        day, body.source, body.frame_id, by, site.clock(), body.counts, plan.is_blind(body.frame_id), body.cannot_tell,
        tuple(body.wrong), tuple(body.missing), body.line,
    )  # fmt: skip
    check_answer(plan, given)
    keep_answer(site.store, given)
    return given.to_json()


def _plan_of(site: ViewedSite, day: date, source: str, line: str | None) -> Plan:
    """Reads a plan; raises ConfigurationError if there is none, with the command that makes one."""
    plan = read_plan(site.store, day, source, line)
    if plan is None:
        raise ConfigurationError(
            f"{line or source} has no plan for {day}, so nothing was drawn for counting.",
            next_step=plan_command(day, source, line),
        )
    return plan


def _author(visitor: Visitor, given: str | None) -> str:
    """Returns the name of the person who counts; raises UsageError without one, or if somebody else is logged in."""
    name = given if visitor is THIS_MACHINE else visitor.name
    if name is None or not name.strip():
        raise UsageError("The name of the person who counts is missing.", next_step="give it as `by`")
    if given not in (None, name):
        raise UsageError(f"{given} counted this, but {name} is logged in.", next_step=f"log in as {given}")
    return name.strip()


def _left_for(plan: Plan, given: Sequence[Answer], by: str) -> list[str]:
    """Returns the samples that a person should still count, in order.

    Everyone but one person starts with the last ones, so that two people at the same time count different frames. The
    order is random, so those with an answer are a random part of the sample from either end.
    """
    authors: dict[str, set[str]] = {sample: set() for sample in plan.samples}
    for one in given:
        authors.setdefault(one.frame_id, set()).add(one.by)
    is_first = by == min({by}.union(*authors.values()))
    return [
        sample
        for sample in plan.samples[:: 1 if is_first else -1]
        if by not in authors[sample] and len(authors[sample]) < (2 if plan.is_for_two(sample) else 1)
    ]


def _clip(lake: LakeSession, plan: Plan, slice_id: str) -> dict[str, Any]:
    clip = read_clip(lake.rows, plan.day, plan.source, slice_id)
    return {"frame_id": slice_id, "blind": True, "counts": {}, "boxes": [], "clip": clip}


def _described(
    plan: Plan, frame_id: str, size: Sequence[int | None], boxes: Sequence[Mapping[str, Any]], threshold: float
) -> dict[str, Any]:
    """Describes a sample for the page: the detections of the plan's labels, as far as counts include them."""
    width, height = size
    is_blind = plan.is_blind(frame_id)
    seen = [] if is_blind else [row for row in boxes if row["label"] in plan.labels and row["confidence"] >= threshold]
    counts = {label: sum(row["label"] == label for row in seen) for label in plan.labels}
    names = ("detection_number", "label", "x", "y", "width", "height")
    return {
        "frame_id": frame_id, "blind": is_blind, "image_width": width, "image_height": height,
        "counts": {} if is_blind else counts,
        "boxes": [{name: row[name] for name in names} for row in seen if row["x"] is not None],
    }  # fmt: skip
