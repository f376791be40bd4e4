"""Alerts: a list, and a page for each number with all of its images; also the address of the classic alert viewer."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response

from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.events.alerts.listing import ListedAlert, list_alerts
from imgpipeline.objectstore import ObjectStore
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.queries import AlertQuery, AlertsQuery, read_query
from imgpipeline.web.viewer.rendering import Renderer
from imgpipeline.web.viewer.responses import answer_bytes, answer_json
from imgpipeline.web.viewer.site import ViewedSite

Number = Annotated[int, Path(ge=1, lt=10**10, description="The alert's number.")]
Position = Annotated[int, Path(ge=0, lt=100, description="Which of its images, from 0.")]
_CAPTIONS = {"before": "Previous Image", "after": "Image", "difference": "Difference Image", "image": "Image"}


def alert_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes.

    Args:
        site: What they read.
        renderer: Makes the pages.
    """
    router = APIRouter(tags=["alerts"])
    _add_api(router, site)

    @router.get("/alerts", include_in_schema=False, response_class=HTMLResponse)
    def alerts_page(request: Request) -> Response:
        query = read_query(AlertsQuery, request)
        if query.number:
            return numbered_page(site, renderer, request, query.number)
        listed, total = list_alerts(site.store, limit=query.limit, before=query.before)
        return renderer.page("alerts.html", listed=listed, total=total, query=query, next=_next(listed))

    @router.get("/alerts/{number}", include_in_schema=False, response_class=HTMLResponse)
    def alert_page(request: Request, number: Number) -> Response:
        return numbered_page(site, renderer, request, str(number))

    @router.get("/alerts/{number}/images/{position}", include_in_schema=False)
    def alert_image(request: Request, number: Number, position: Position) -> Response:
        images = read_listed(site.store, number).alert.images
        if position >= len(images):
            raise ConfigurationError(f"The alert {number} has {len(images)} images.", next_step=f"see /alerts/{number}")
        found = site.pictures.stored(images[position][1], f"the alert {number}")
        return answer_bytes(request, found.data, found.media_type, e_tag=found.e_tag, is_lasting=True)

    return router


def _add_api(router: APIRouter, site: ViewedSite) -> None:
    @router.get("/api/v1/alerts")
    def alerts(request: Request, query: Annotated[AlertQuery, Query()]) -> Response:
        """Alerts, the latest first, with what became of them. `next` is the value of `before` for the next page."""
        listed, total = list_alerts(site.store, limit=query.limit, before=query.before)
        found = [one.to_json() for one in listed]
        return answer_json(request, {"total": total, "next": _next(listed), "alerts": found})

    @router.get("/api/v1/alerts/{number}")
    def alert(request: Request, number: Number) -> Response:
        """One alert. Its images are at `/alerts/{number}/images/0` and so on."""
        return answer_json(request, read_listed(site.store, number).to_json())


def read_listed(store: ObjectStore, number: int) -> ListedAlert:
    """Reads one alert.

    Raises:
        ConfigurationError: There is none of this number.
        PermanentError: It is damaged.
        TransientError: The store does not answer.
    """
    try:
        return ListedAlert.read(store, number)
    except UsageError as error:
        raise ConfigurationError(error.message, next_step="/alerts lists them") from None


def numbered_page(site: ViewedSite, renderer: Renderer, request: Request, number: str) -> Response:
    """Returns the page of an alert whose number someone has entered.

    Args:
        site: Names the store.
        renderer: Makes the page.
        request: Of somebody who may acknowledge it or not.
        number: As entered.

    Raises:
        UsageError: It is not a number.
        ConfigurationError: There is no such alert.
    """
    if not (number.isascii() and number.isdecimal() and len(number) <= 10):
        raise UsageError(f"The alert number is {number[:40]!r}.", next_step="enter a decimal number, such as 17")
    listed = read_listed(site.store, int(number))
    images = [(_CAPTIONS.get(name, name), position) for position, (name, _) in enumerate(listed.alert.images)]
    may_acknowledge = Scope.ACKNOWLEDGE in request.state.visitor.scopes
    return renderer.page(
        "alert.html", listed=listed, alert=listed.alert, images=images, may_acknowledge=may_acknowledge
    )


def _next(listed: Sequence[ListedAlert]) -> int | None:
    """Returns below which number the next page begins; alerts are numbered from 1, without gaps."""
    return listed[-1].alert.number if listed and listed[-1].alert.number > 1 else None
