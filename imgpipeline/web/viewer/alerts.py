"""Alerts as pages and in the API: the list, and each alert with its images and acknowledgements."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import Field

from imgpipeline.contracts.times import format_time
from imgpipeline.errors import ConfigurationError, ImgpipelineError, UsageError
from imgpipeline.events.alerts.listing import Acknowledgement, ListedAlert, acknowledge, list_alerts
from imgpipeline.events.configuration import Line, Zone
from imgpipeline.events.values import Event
from imgpipeline.objectstore import ObjectStore
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import allowed
from imgpipeline.web.viewer.answers import frame_with_boxes, places_of
from imgpipeline.web.viewer.queries import MOST_FORM_BYTES, Given, Note, UrlQuery, Zoned
from imgpipeline.web.viewer.responses import Pages, Renderer, answer_bytes, answer_json
from imgpipeline.web.viewer.site import Site, ViewedSite
from imgpipeline.web.viewer.views import Asked, View, add_route, page_of

Number = Annotated[int, Path(ge=1, lt=10**10, description="Number of the alert.")]
Position = Annotated[int, Path(ge=0, lt=100, description="Position of the image in the alert, from 0.")]
_CAPTIONS = {"before": "Previous Image", "after": "Image", "difference": "Difference Image", "image": "Image"}
_ALL_ALERTS = "/alerts lists them"


class AlertQuery(UrlQuery):
    """A page of alerts."""

    before: int | None = Field(
        None, ge=1, lt=10**10, description="Only alerts with a lower number: `next` of the previous page."
    )
    limit: int = Field(100, ge=1, le=1000, description="Maximum number of alerts.")


class AlertsQuery(Zoned, AlertQuery):
    """A page of alerts, or one alert whose number was entered."""

    number: str | None = Field(None, description="Number of an alert.")


class NoteBody(Given):
    """An acknowledgement of an alert."""

    note: Note = Field("", description="A comment on the alert.")


def _listed(asked: Asked) -> tuple[list[ListedAlert], int]:
    return list_alerts(asked.site.store, limit=asked.query.limit, before=asked.query.before)


_ALERTS = View(
    "/alerts", AlertsQuery, _listed,
    lambda _, found: {"listed": found[0], "total": found[1], "next": _next(found[0])},
    lambda _, found: {"total": found[1], "next": _next(found[0]), "alerts": [one.to_json() for one in found[0]]},
    "Lists alerts with deliveries and acknowledgements, the latest first; `next` is `before` of the next page.",
    api_query=AlertQuery,
)  # fmt: skip


router = APIRouter(tags=["alerts"])
add_route(router, _ALERTS)


@router.get("/alerts", include_in_schema=False, response_class=HTMLResponse)
def alerts_page(request: Request, site: Site, pages: Pages, query: Annotated[AlertsQuery, Query()]) -> Response:
    """Shows the list, or the alert whose number was entered."""
    if query.number:
        return numbered_page(site, pages, request, query.number, Zoned(timezone=query.timezone))
    return page_of(_ALERTS, request, query, pages)


@router.get("/alerts/{number}", include_in_schema=False, response_class=HTMLResponse)
def alert_page(
    request: Request, site: Site, pages: Pages, number: Number, query: Annotated[Zoned, Query()]
) -> Response:
    """Shows one alert."""
    return numbered_page(site, pages, request, str(number), query)


@router.get("/alerts/{number}/images/{position}", include_in_schema=False)
def alert_image(request: Request, site: Site, number: Number, position: Position) -> Response:
    """Returns an image of an alert."""
    images = _read(site.store, number).alert.images
    if position >= len(images):
        raise ConfigurationError(f"Alert {number} has {len(images)} images.", next_step=f"see /alerts/{number}")
    found = site.pictures.stored(images[position][1], f"the alert {number}")
    return answer_bytes(request, found.data, found.media_type, e_tag=found.e_tag, is_lasting=True)


@router.get("/api/v1/alerts/{number}")
def alert(request: Request, site: Site, number: Number) -> Response:
    """Returns one alert. Its images are at `/alerts/{number}/images/0` and so on."""
    return answer_json(request, _read(site.store, number).to_json())


@router.post("/api/v1/alerts/{number}/acknowledgements", status_code=201)
def by_api(request: Request, site: Site, number: Number, body: NoteBody) -> dict[str, Any]:
    """Acknowledges an alert. Earlier acknowledgements stay."""
    given = Acknowledgement(allowed(request, Scope.ACKNOWLEDGE).name, site.clock(), body.note)
    try:
        acknowledge(site.store, number, given)
    except UsageError as error:
        raise ConfigurationError(error.message, next_step=_ALL_ALERTS) from None
    return {"number": number, "by": given.by, "at": format_time(given.at), "note": given.note}


@router.post("/alerts/{number}/acknowledge", include_in_schema=False, max_body_size=MOST_FORM_BYTES)
def acknowledge_by_form(request: Request, site: Site, number: Number, body: Annotated[NoteBody, Form()]) -> Response:
    """Acknowledges an alert from its page."""
    by_api(request, site, number, body)
    return RedirectResponse(f"/alerts/{number}", 303)


def numbered_page(site: ViewedSite, renderer: Renderer, request: Request, number: str, query: Zoned) -> Response:
    """Returns the page of an alert whose number was entered, with a form to acknowledge it if the visitor may.

    Raises:
        UsageError: The text is not a number.
        ConfigurationError: The alert does not exist.
    """
    if not (number.isascii() and number.isdecimal() and len(number) <= 10):
        raise UsageError(f"{number[:40]!r} is not an alert number.", next_step="enter a decimal number, such as 17")
    listed = _read(site.store, int(number))
    captions = [_CAPTIONS.get(name, name) for name, _ in listed.alert.images]
    frames, places = _seen_in(site, listed.alert.event)
    return renderer.page(
        "alert.html", listed=listed, alert=listed.alert, captions=captions, frames=frames, places=places,
        may_acknowledge=Scope.ACKNOWLEDGE in request.state.visitor.scopes, query=query, zone=site.page_zone(query),
    )  # fmt: skip


def _seen_in(site: ViewedSite, event: Event) -> tuple[Sequence[Any], Sequence[Zone | Line]]:
    """Returns the frames of an event with their boxes, and the places of its source; nothing if the tables lack it."""
    try:
        with site.lake.reading() as lake:
            frames = [frame_with_boxes(lake, event.timestamp.date(), frame_id) for frame_id in event.frame_ids]
            return frames, places_of(site, lake, event.source)
    except ImgpipelineError:
        return (), ()


def _read(store: ObjectStore, number: int) -> ListedAlert:
    """Reads one alert; raises ConfigurationError if it does not exist, or an error of the store."""
    try:
        return ListedAlert.read(store, number)
    except UsageError as error:
        raise ConfigurationError(error.message, next_step=_ALL_ALERTS) from None


def _next(listed: Sequence[ListedAlert]) -> int | None:
    """Returns `before` of the next page; alerts are numbered from 1, without gaps."""
    return listed[-1].alert.number if listed and listed[-1].alert.number > 1 else None
