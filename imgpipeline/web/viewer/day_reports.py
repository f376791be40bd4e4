"""The stored daily reports: a list of them, and each as it is stored, in a sandbox of its own."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, Response

from imgpipeline.contracts.keys import REPORTS, parse_day, report_key
from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore import ObjectInfo, ObjectMissingError
from imgpipeline.web.viewer.queries import Day, NoQuery, read_query
from imgpipeline.web.viewer.rendering import Renderer
from imgpipeline.web.viewer.responses import answer_json
from imgpipeline.web.viewer.site import ViewedSite

REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""A report holds its style and images itself. In the sandbox it has no scripts and an origin of its own: who can write
to the store cannot act as the person who reads a report."""


def report_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes.

    Args:
        site: Its store is read.
        renderer: Makes the list.
    """
    router = APIRouter(tags=["viewer"])

    @router.get("/reports", include_in_schema=False, response_class=HTMLResponse)
    def page(request: Request) -> Response:
        read_query(NoQuery, request)
        return renderer.page("reports.html", reports=_stored(site))

    @router.get("/reports/{day}", include_in_schema=False, response_class=HTMLResponse)
    def report(day: Annotated[Day, Path()]) -> Response:
        try:
            stored = site.store.get(report_key(day))
        except ObjectMissingError:
            raise ConfigurationError(
                f"No report of {day} is stored.", next_step=f"imgpipeline report --day {day}"
            ) from None
        return HTMLResponse(stored, headers={"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-cache"})

    @router.get("/api/v1/reports")
    def api(request: Request) -> Response:
        """The daily reports that are stored, the latest first. `/reports/DAY` is a report as HTML."""
        found = [{"day": day, "size_bytes": one.size_bytes, "made_at": one.last_modified} for day, one in _stored(site)]
        return answer_json(request, {"reports": found})

    return router


def _stored(site: ViewedSite) -> Sequence[tuple[date, ObjectInfo]]:
    named = ((parse_day(info.key), info) for info in site.store.list_objects(REPORTS))
    return sorted(
        ((day, info) for day, info in named if day is not None and info.key == report_key(day)),
        key=lambda pair: pair[0],
        reverse=True,
    )
