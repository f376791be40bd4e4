"""One dead letter: a page with its raw record, and its replay by a form or the API."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from imgpipeline.errors import ConfigurationError, TransientError, UsageError
from imgpipeline.ledger.dead_letters import Wanted
from imgpipeline.sources.dead_letters import (
    NOT_STORED,
    LetterDetails,
    ReplayPlan,
    ReplayResult,
    plan_replay,
    read_details,
    readable,
    replay,
)
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import Visitor, allowed
from imgpipeline.web.viewer.queries import Zoned
from imgpipeline.web.viewer.responses import Pages, answer_json
from imgpipeline.web.viewer.site import Site, ViewedSite

Topic = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,249}$", description="Kafka topic.")]
Partition = Annotated[int, Path(ge=0, lt=10**9, description="Kafka partition.")]
Offset = Annotated[int, Path(ge=0, lt=10**18, description="Offset of the record.")]
_OWN = "/dead-letters/{topic}/{partition}/{offset}"
_SHOWN_BYTES = 4096
_TURN_S = 30.0


router = APIRouter(tags=["dead letters"])


@router.get(_OWN, include_in_schema=False, response_class=HTMLResponse)
def show(
    request: Request, site: Site, pages: Pages, topic: Topic, partition: Partition, offset: Offset,
    query: Annotated[Zoned, Query()],
) -> Response:  # fmt: skip
    """Shows a dead letter. Only a replay connects to Kafka."""
    found = _read(site, topic, partition, offset)
    visitor: Visitor = request.state.visitor
    value = found.original.value if found.original else b""
    return pages.page(
        "dead-letter.html", found=found, value=value, shown=_SHOWN_BYTES, readable=readable, run_url=site.run_url,
        waiting=None if found.buried.became else site.replayed.get(found.buried.reference),
        may_replay=Scope.REPLAY in visitor.scopes, query=query, zone=site.page_zone(query),
    )  # fmt: skip


@router.get(f"{_OWN}/value", include_in_schema=False)
def value(site: Site, topic: Topic, partition: Partition, offset: Offset) -> Response:
    """Returns the record's value as a file."""
    found = _read(site, topic, partition, offset)
    if found.original is None:
        raise ConfigurationError(f"The value is not available: {found.missing}.")
    name = f'attachment; filename="{topic}-{partition}-{offset}.bin"'
    return Response(found.original.value, media_type="application/octet-stream", headers={"Content-Disposition": name})


@router.post(f"{_OWN}/replay", include_in_schema=False)
def replay_by_form(request: Request, site: Site, topic: Topic, partition: Partition, offset: Offset) -> Response:
    """Replays a dead letter from its page."""
    allowed(request, Scope.REPLAY)
    found = _read(site, topic, partition, offset)
    plan, result = _announce(site, found)
    said = _said(plan, result, site.settings.kafka_topic)
    if not (result.announced or plan.under_way):
        raise UsageError(said)
    site.replayed[found.buried.reference] = said
    return RedirectResponse(_OWN.format(topic=topic, partition=partition, offset=offset), 303)


@router.get(f"/api/v1{_OWN}")
def dead_letter(request: Request, site: Site, topic: Topic, partition: Partition, offset: Offset) -> Response:
    """Returns a dead letter with reason, record (base64), segment, run, model, state and next step."""
    return answer_json(request, _read(site, topic, partition, offset).to_json())


@router.post(f"/api/v1{_OWN}/replays")
def by_api(request: Request, site: Site, topic: Topic, partition: Partition, offset: Offset) -> dict[str, Any]:
    """Replays a dead letter, as `imgpipeline dead-letters replay` does. A repeated request does nothing."""
    allowed(request, Scope.REPLAY)
    plan, result = _announce(site, _read(site, topic, partition, offset))
    said = _said(plan, result, site.settings.kafka_topic)
    return {"announced": result.announced == 1, "topic": site.settings.kafka_topic, "said": said}


def _read(site: ViewedSite, topic: str, partition: int, offset: int) -> LetterDetails:
    def not_fetched() -> Any:
        raise TransientError(f"{NOT_STORED}; `imgpipeline dead-letters show` reads it from Kafka, if it is there")

    return read_details(site.settings, site.store, f"{topic}/{partition}/{offset}", present=not_fetched)


def _announce(site: ViewedSite, found: LetterDetails) -> tuple[ReplayPlan, ReplayResult]:
    wanted = Wanted(found.letter.code, record=found.buried.reference)
    if not site.replaying.acquire(timeout=_TURN_S):
        raise TransientError("Other dead letters are being replayed.", next_step="try again in a minute")
    try:
        plan = plan_replay(site.settings, site.store, wanted)
        return plan, replay(site.settings, site.store, plan) if plan.chosen else ReplayResult(0, ())
    except ConfigurationError as error:  # about the broker: the visitor can only wait, or tell the operator
        raise TransientError(error.message, next_step=error.next_step) from None
    finally:
        site.replaying.release()


def _said(plan: ReplayPlan, result: ReplayResult, topic: str) -> str:
    if result.refused:
        return f"It cannot be replayed: {result.refused[0].reason}."
    if result.announced:
        return f"Replayed on the topic {topic}. The next detection run will process it."
    if plan.imported:
        return (
            "It was imported from a file, so Kafka has no record of it. Correct the row and import it from a new file."
        )
    if plan.under_way:
        return "It was replayed before and waits for a detection run."
    return "Nothing to replay: it became a frame or a later dead letter."
