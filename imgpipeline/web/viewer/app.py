"""The viewer as an ASGI application: routes, security headers, error responses, and the server that runs it."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette import types
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from imgpipeline import __version__
from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.errors import ConfigurationError, ImgpipelineError, UsageError
from imgpipeline.settings import Settings
from imgpipeline.web.http_server import LOOPBACK_HOSTS, is_loopback, run_until
from imgpipeline.web.keys import Scope
from imgpipeline.web.viewer import (
    alerts,
    annotating,
    api,
    classic,
    comparisons,
    counting,
    day_lists,
    dead_letters,
    frame_pages,
    overview,
    places,
    reviewing,
    search,
)
from imgpipeline.web.viewer.access import Access, is_forged
from imgpipeline.web.viewer.answers import EmptyLedgerError
from imgpipeline.web.viewer.queries import wrong_parameter
from imgpipeline.web.viewer.responses import PROBLEMS, STATIC, Renderer, error_json, status_of
from imgpipeline.web.viewer.site import ViewedSite, open_site

_GRACE_S = 5
_DESCRIPTION = "Frames, counts, sources, events and alerts of imgpipeline."
ROUTES = (
    api, frame_pages, alerts, reviewing, annotating, counting, day_lists, dead_letters, places, comparisons, search,
    classic, overview,
)  # fmt: skip
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Sent with every response: no scripts, styles or images of other origins, and no inline ones."""


def create_app(site: ViewedSite, access: Access) -> FastAPI:
    """Returns the application; the site's lake opens and closes with it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(site.lake.start)
        yield
        await run_in_threadpool(site.lake.close)

    app = FastAPI(
        title="imgpipeline: viewer", version=__version__, description=_DESCRIPTION, docs_url=None, redoc_url=None,
        openapi_url="/openapi.json", lifespan=lifespan, responses=PROBLEMS,
    )  # fmt: skip
    renderer = Renderer(site.lake)
    app.state.site, app.state.renderer = site, renderer
    _add_errors(app, renderer)
    for routes in ROUTES:
        app.include_router(routes.router)
    app.mount("/static", StaticFiles(directory=str(STATIC)))
    app.add_route("/health", lambda _: Response("ok"), include_in_schema=False)  # probes have no key

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return renderer.page("api.html", api=app.openapi())

    @app.middleware("http")
    async def secure(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = (None if request.url.path == "/health" else _refuse(request, access)) or await answer(request)
        for name, value in SECURITY_HEADERS.items():  # keeps the stricter policy of a report
            response.headers.setdefault(name, value)
        return response

    if not access.is_needed():
        # Without login, a foreign page must not reach this server through its own host name (DNS rebinding).
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)
    app.add_middleware(_AnswerHead)
    return app


@dataclass(frozen=True, slots=True)
class _AnswerHead:
    """Answers HEAD as GET: the server leaves out the body. It would not end the stream of changes."""

    app: types.ASGIApp

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        is_head = scope.get("method") == "HEAD" and not scope["path"].endswith("/changes")
        await self.app({**scope, "method": "GET"} if is_head else scope, receive, send)


def _refuse(request: Request, access: Access) -> Response | None:
    """Returns the response to a request that is not allowed; it reveals nothing about the site."""
    try:
        visitor = access.visitor(request)
    except ConfigurationError as error:
        return error_json(503, error.message, error.next_step)
    if visitor is None:
        refused = error_json(401, "An API key is required.", "send it as Authorization: Bearer KEY, or as the password")
        # Basic makes browsers ask for a password; clients of the API must not get that dialog.
        kind = "Bearer" if request.url.path.startswith("/api/") else 'Basic realm="imgpipeline", charset="UTF-8"'
        refused.headers["WWW-Authenticate"] = kind
        return refused
    if Scope.READ not in visitor.scopes:
        return error_json(403, "This API key may not read.", "imgpipeline keys add --name NAME")
    if is_forged(request):
        return error_json(403, "Another site sent this request.", "send it from a page of this server")
    request.state.visitor = visitor
    return None


def _add_errors(app: FastAPI, renderer: Renderer) -> None:
    def show(request: Request, status: int, message: str, next_step: str | None) -> Response:
        if request.url.path.startswith("/api/"):
            return error_json(status, message, next_step)
        return renderer.error(status, message, next_step)

    @app.exception_handler(EmptyLedgerError)
    def empty(request: Request, error: EmptyLedgerError) -> Response:
        if request.url.path.startswith("/api/"):
            return error_json(status_of(error), error.message, error.next_step)
        return renderer.page("empty.html")

    @app.exception_handler(ImgpipelineError)
    def own(request: Request, error: ImgpipelineError) -> Response:
        return show(request, status_of(error), error.message, error.next_step)

    @app.exception_handler(RequestValidationError)
    def wrong(request: Request, error: RequestValidationError) -> Response:
        parameter = wrong_parameter(error.errors())
        return show(request, 400, parameter.message, parameter.next_step)

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        """Reports a defect; uvicorn logs the traceback."""
        message = f"Unexpected error: {type(error).__name__}. The log of `imgpipeline serve` has the traceback."
        answer = show(request, 500, message, "report this error")
        answer.headers.update(SECURITY_HEADERS)
        return answer

    @app.exception_handler(AnyHTTPException)
    def other(request: Request, error: HTTPException) -> Response:
        step = "see `/docs` for the API, or start at `/`" if error.status_code == 404 else None
        return show(request, error.status_code, f"{request.method} {request.url.path[:200]}: {error.detail}.", step)


def run_viewer(settings: Settings, host: str, port: int, stop: threading.Event, clock: Clock = utc_now) -> None:
    """Runs the viewer until `stop` is set (`imgpipeline serve`).

    Raises:
        UsageError: Other machines could reach the address without login.
        ConfigurationError: The address cannot be opened, or a setting is wrong.
        PermanentError: The server stopped unexpectedly; its log says why.
    """
    access = Access(settings)
    check_host(access, host, port)
    run_until(create_app(open_site(settings, clock=clock, stopping=stop), access), host, port, stop, grace_s=_GRACE_S)


def check_host(access: Access, host: str, port: int) -> None:
    """Refuses an address that other machines can reach without login; raises UsageError."""
    if not is_loopback(host) and not access.is_needed():
        raise UsageError(
            f"Anyone who can reach {host} could see all images, because there is no API key.",
            next_step="create one: imgpipeline keys add --name NAME; or serve on 127.0.0.1, and on another machine "
            f"run: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE",
        )
