"""The viewer as an ASGI application: routes, security headers, and the one place where errors become answers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from imgpipeline import __version__
from imgpipeline.errors import ConfigurationError, ImgpipelineError
from imgpipeline.web.http_server import LOOPBACK_HOSTS
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer.access import Access, is_forged
from imgpipeline.web.viewer.acknowledging import acknowledging_routes
from imgpipeline.web.viewer.alerts import alert_routes
from imgpipeline.web.viewer.annotating import annotating_routes
from imgpipeline.web.viewer.api import api_routes
from imgpipeline.web.viewer.changes import change_routes
from imgpipeline.web.viewer.classic import classic_routes
from imgpipeline.web.viewer.comparisons import comparison_routes
from imgpipeline.web.viewer.coverage import coverage_routes
from imgpipeline.web.viewer.day_lists import day_list_routes
from imgpipeline.web.viewer.day_reports import report_routes
from imgpipeline.web.viewer.dead_letters import dead_letter_routes
from imgpipeline.web.viewer.exporting import exporting_routes
from imgpipeline.web.viewer.heat_map import heat_map_routes
from imgpipeline.web.viewer.live import live_routes
from imgpipeline.web.viewer.pages import page_routes
from imgpipeline.web.viewer.places import place_routes
from imgpipeline.web.viewer.queries import wrong_parameter
from imgpipeline.web.viewer.rendering import STATIC, Renderer
from imgpipeline.web.viewer.responses import PROBLEMS, error_json, status_of
from imgpipeline.web.viewer.reviewing import reviewing_routes
from imgpipeline.web.viewer.search import search_routes
from imgpipeline.web.viewer.site import ViewedSite

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Sent with every answer: no script, style or image of another origin, and none within a page's text."""


def create_app(site: ViewedSite, access: Access) -> FastAPI:
    """Returns the application.

    Args:
        site: What it reads; its lake is opened and closed with the application.
        access: Who may use it.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(site.lake.start)
        yield
        await run_in_threadpool(site.lake.close)

    app = FastAPI(
        title="imgpipeline: viewer", version=__version__, description=__doc__, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json", lifespan=lifespan, responses=PROBLEMS,
    )  # fmt: skip
    renderer = Renderer(site.lake)
    _add_errors(app, renderer)
    for routes in _routes(site, renderer):
        app.include_router(routes)
    app.mount("/static", StaticFiles(directory=str(STATIC)))

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return renderer.page("api.html", api=app.openapi())

    @app.middleware("http")
    async def secure(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = _refuse(request, access) or await answer(request)
        for name, value in SECURITY_HEADERS.items():  # a report has a policy of its own
            response.headers.setdefault(name, value)
        return response

    if not access.is_needed():
        # Nobody is asked for a password, so a page in a browser must not reach this through a name of its own.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)
    return app


def _routes(site: ViewedSite, renderer: Renderer) -> Iterator[APIRouter]:
    yield api_routes(site)
    yield alert_routes(site, renderer)
    yield acknowledging_routes(site)
    yield reviewing_routes(site, renderer)
    yield annotating_routes(site, renderer)
    yield exporting_routes(site)
    yield day_list_routes(site, renderer)
    yield dead_letter_routes(site, renderer)
    yield coverage_routes(site, renderer)
    yield place_routes(site, renderer)
    yield live_routes(site, renderer)
    yield heat_map_routes(site, renderer)
    yield comparison_routes(site, renderer)
    yield report_routes(site, renderer)
    yield search_routes(site, renderer)
    yield change_routes(site)
    yield classic_routes(site, renderer)
    yield page_routes(site, renderer)


def _refuse(request: Request, access: Access) -> Response | None:
    """Returns the answer to a request that may not be made; it says nothing of the site."""
    try:
        visitor = access.visitor(request)
    except ConfigurationError as error:
        return error_json(503, error.message, error.next_step)
    if visitor is None:
        refused = error_json(401, "An API key is needed.", "send it as Authorization: Bearer KEY, or as the password")
        # A browser asks for name and password; scripts of the API do not want its dialog.
        kind = "Bearer" if request.url.path.startswith("/api/") else 'Basic realm="imgpipeline", charset="UTF-8"'
        refused.headers["WWW-Authenticate"] = kind
        return refused
    if Scope.READ not in visitor.scopes:
        return error_json(403, "This API key may not read.", "imgpipeline keys create --scope read")
    if is_forged(request):
        return error_json(403, "Another site sent this request.", "send it from a page of this server")
    request.state.visitor = visitor
    return None


def _add_errors(app: FastAPI, renderer: Renderer) -> None:
    def show(request: Request, status: int, message: str, next_step: str | None) -> Response:
        if request.url.path.startswith("/api/"):
            return error_json(status, message, next_step)
        return renderer.error(status, message, next_step)

    @app.exception_handler(ImgpipelineError)
    def own(request: Request, error: ImgpipelineError) -> Response:
        return show(request, status_of(error), error.message, error.next_step)

    @app.exception_handler(RequestValidationError)
    def wrong(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        said = wrong_parameter(first["loc"], first["msg"])
        return show(request, 400, said.message, said.next_step)

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        """Answers for a defect; uvicorn logs the traceback."""
        message = f"Unexpected error: {type(error).__name__}. The log of `imgpipeline serve` has the traceback."
        answer = show(request, 500, message, "report it")
        answer.headers.update(SECURITY_HEADERS)
        return answer

    @app.exception_handler(AnyHTTPException)
    def other(request: Request, error: HTTPException) -> Response:
        step = "see `/docs` for the API, or start at `/`" if error.status_code == 404 else None
        return show(request, error.status_code, f"{request.method} {request.url.path[:200]}: {error.detail}.", step)
