"""Acknowledging alerts: by a form on the alert's page, and by the API."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from imgpipeline.contracts.times import format_time
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.events.alerts.listing import Acknowledgement, acknowledge
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import Visitor
from imgpipeline.web.viewer.forms import read_form
from imgpipeline.web.viewer.site import ViewedSite

_LONGEST_NOTE = 2_000
Number = Annotated[int, Path(ge=1, lt=10**10, description="The alert's number.")]


class NoteBody(BaseModel):
    """What somebody says of an alert."""

    model_config = ConfigDict(extra="forbid")

    note: str = Field("", max_length=_LONGEST_NOTE, description="What the alert was about.")


def acknowledging_routes(site: ViewedSite) -> APIRouter:
    """Returns the routes.

    Args:
        site: Names the store.
    """
    router = APIRouter(tags=["alerts"])

    def record(number: int, visitor: Visitor, note: str) -> Acknowledgement:
        given = Acknowledgement(visitor.name, site.clock(), note)
        try:
            acknowledge(site.store, number, given)
        except UsageError as error:
            raise ConfigurationError(error.message, next_step="/alerts lists them") from None
        return given

    @router.post("/api/v1/alerts/{number}/acknowledgements", status_code=201)
    def by_api(request: Request, number: Number, body: NoteBody) -> dict[str, Any]:
        """Records that somebody has seen an alert. Earlier acknowledgements stay."""
        given = record(number, allowed(request, Scope.ACKNOWLEDGE), body.note)
        return {"number": number, "by": given.by, "at": format_time(given.at), "note": given.note}

    @router.post("/alerts/{number}/acknowledge", include_in_schema=False)
    async def by_form(request: Request, number: Number) -> Response:
        visitor = allowed(request, Scope.ACKNOWLEDGE)
        note = (await read_form(request)).get("note", "")
        if len(note) > _LONGEST_NOTE:
            raise UsageError(f"The note has {len(note):,} characters.", next_step=f"at most {_LONGEST_NOTE:,} are kept")
        await run_in_threadpool(record, number, visitor, note)
        return RedirectResponse(f"/alerts/{number}", 303)

    return router


def allowed(request: Request, scope: Scope) -> Visitor:
    """Returns who sends a request that needs a scope.

    Raises:
        HTTPException: 403 if they do not have it.
    """
    visitor: Visitor = request.state.visitor
    if scope not in visitor.scopes:
        raise HTTPException(403, f"this needs an API key with the scope {scope}")
    return visitor
