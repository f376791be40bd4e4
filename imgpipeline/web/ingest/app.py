"""The HTTP source.

A request is answered when its image is stored and Kafka has the announcement. A frame that is sent again, after any
failure, counts once: source, time and number identify a frame with a time, and the content identifies one without.
"""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment
from starlette.middleware.trustedhost import TrustedHostMiddleware

from imgpipeline import __version__
from imgpipeline.contracts.templates import ImageKeyTemplate
from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.errors import ImgpipelineError, UsageError
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.configuration import HttpConfig
from imgpipeline.sources.ingest import IngestSessions
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import checked_source
from imgpipeline.stream.connection import open_admin
from imgpipeline.stream.log import ask_topic
from imgpipeline.vision.decode import ImageLimits
from imgpipeline.web.http_server import LOOPBACK_HOSTS, is_loopback, run_until
from imgpipeline.web.ingest.classic import Jobs, add_classic
from imgpipeline.web.ingest.frames import LINES, BodyBudget, FrameDesk, announced_size, described, read_body, read_lines
from imgpipeline.web.keys import KeyFile, Scope, sent_secret

_BUDGET_BYTES = 512 * 2**20
_IMAGE_TYPES = ("image/", "application/octet-stream")
_FIELDS = ("timestamp", "number", "attributes")
_GRACE_S = 40
_API_PAGE = Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ api.info.title }}</title>
<style>body{font:16px/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}code,h2{font-family:monospace}
h2{font-size:1.1rem;margin-top:2rem}pre{white-space:pre-wrap;font:inherit}</style>
<h1>{{ api.info.title }} {{ api.info.version }}</h1>
<pre>{{ api.info.description }}</pre>
<p>For programs: <a href="openapi.json">openapi.json</a></p>
{% for path, operations in api.paths.items() %}{% for method, operation in operations.items() %}
<h2>{{ method.upper() }} {{ path }}</h2>
<pre>{{ operation.description }}</pre>
{% if operation.parameters %}<ul>{% for parameter in operation.parameters %}
<li><code>{{ parameter.name }}</code> ({{ parameter.in }}{{ ", required" if parameter.required }})</li>
{% endfor %}</ul>{% endif %}
{% endfor %}{% endfor %}</html>
"""
)


@dataclass(frozen=True, slots=True)
class IngestServer:
    """The state of the application."""

    settings: Settings
    store: ObjectStore
    publishers: IngestSessions
    keys: KeyFile
    """The API keys; while there has never been one, requests need no key."""
    jobs: Jobs
    options: PublishOptions = field(default_factory=PublishOptions)
    clock: Clock = utc_now


def open_server(
    settings: Settings, *, options: PublishOptions | None = None, board: Board | None = None
) -> IngestServer:
    """Opens store, publishers, keys and jobs.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    store, chosen = open_store(settings), options or PublishOptions()
    publishers = IngestSessions(settings, options=chosen, board=board)
    jobs = Jobs(settings, store, options=chosen, board=board)
    return IngestServer(settings, store, publishers, KeyFile(settings.api_keys_file), jobs, chosen)


def create_app(server: IngestServer) -> FastAPI:
    """Returns the ASGI application; the sessions of the server end with it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        server.jobs.resume()
        yield
        await run_in_threadpool(server.jobs.close)
        await run_in_threadpool(server.publishers.close, "stopped", drain_s=server.options.drain_s)

    app = FastAPI(
        title="imgpipeline: HTTP source",
        version=__version__,
        description=__doc__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    if not server.keys.are_needed(Scope.INGEST):
        # Without keys, a web page of another site must not reach this server by a DNS name of its own.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)
    _add_frames(app, server)
    _add_health(app, server)
    add_classic(app, server.settings, server.jobs, partial(allow, server))

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(_API_PAGE.render(api=app.openapi()))

    return app


def allow(server: IngestServer, request: Request, source: str | None) -> None:
    """Refuses a request without a key for a source (None: for any source).

    Raises:
        HTTPException: 401 or 403.
    """
    if not server.keys.are_needed(Scope.INGEST):
        return
    sent = request.headers.get("x-api-key") or sent_secret(request.headers.get("authorization", ""))
    key = server.keys.find(sent) if sent else None
    if key is None:
        raise HTTPException(401, "an API key is needed: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
    if Scope.INGEST not in key.scopes:
        raise HTTPException(403, "this API key is not for posting images")
    if source is not None and not key.allows(source):
        raise HTTPException(403, f"this API key is not for the source {source!r}")


def _add_frames(app: FastAPI, server: IngestServer) -> None:
    template = ImageKeyTemplate(server.settings.image_key_template)
    changes_images = server.options.preparation.changes_images
    budget, limit_bytes = BodyBudget(_BUDGET_BYTES), server.settings.max_image_bytes
    limits = ImageLimits(server.settings.max_image_pixels, limit_bytes)
    desk = FrameDesk(server.publishers, server.store, template, server.clock, limits, changes_images=changes_images)

    def check(source: str, request: Request) -> None:
        try:
            allow(server, request, checked_source(source))
        except UsageError as error:
            raise HTTPException(422, error.message) from None

    @app.post("/frames/{source}", status_code=201, tags=["frames"])
    async def post_frame(source: str, request: Request) -> dict[str, Any]:
        """Stores the image in the body, and announces it as a frame of the source.

        Query parameters, or headers X-Frame-Timestamp, X-Frame-Number and X-Frame-Attributes: `timestamp` (RFC 3339),
        `number` and `attributes` (a JSON object). Without a timestamp, the content identifies the frame: the same image
        is one frame per day, unless different Idempotency-Key headers distinguish its frames.
        """
        check(source, request)
        _check_type(request, _IMAGE_TYPES, "image/jpeg or image/png")
        async with budget.reserved(announced_size(request, limit_bytes)):
            data = await read_body(request, limit_bytes)
            return await desk.publish(source, described(data, _given(request)))

    @app.post("/frames/{source}/batch", tags=["frames"])
    async def post_batch(source: str, request: Request) -> dict[str, Any]:
        """Stores and announces several images: one JSON document per line (NDJSON).

        `{"image": base64, "timestamp", "number", "attributes", "idempotency_key"}`; all fields but the image are
        optional. The response has one entry per line, in order, each with its own `code`. An invalid line does not stop
        the others.
        """
        check(source, request)
        _check_type(request, (LINES,), LINES)
        async with budget.reserved(2 * limit_bytes):
            results = [entry async for entry in read_lines(request, limit_bytes, desk, source)]
        return {"frames": results, "announced": sum(entry["code"] == 201 for entry in results)}


def _check_type(request: Request, allowed: tuple[str, ...], wanted: str) -> None:
    sent = request.headers.get("content-type", allowed[0]).lower()
    if not sent.startswith(allowed):
        raise HTTPException(415, f"Content-Type is {sent[:100]!r}, expected {wanted}")


def _given(request: Request) -> dict[str, str]:
    headers = {name: request.headers.get(f"x-frame-{name}", "") for name in _FIELDS}
    given = {name: request.query_params.get(name) or headers[name] for name in _FIELDS}
    return {**given, "idempotency_key": request.headers.get("idempotency-key", "")}


def _add_health(app: FastAPI, server: IngestServer) -> None:
    @app.get("/health", tags=["health"])
    def health() -> dict[str, str]:
        """Answers while the process runs."""
        return {"status": "ok"}

    @app.get("/ready", tags=["health"])
    def ready() -> Response:
        """Answers 200 if store and Kafka answer, otherwise 503 with the reason."""
        try:
            server.store.head("images/ready")
            with open_admin(server.settings) as admin:
                ask_topic(admin, server.settings)
        except ImgpipelineError as error:
            return JSONResponse({"status": "not ready", "reason": error.message}, 503)
        return JSONResponse({"status": "ready"})


def serve(
    settings: Settings,
    host: str,
    port: int,
    stop: threading.Event,
    *,
    options: PublishOptions | None = None,
    board: Board | None = None,
) -> None:
    """Serves until `stop` is set, and announces the frames that have arrived before it ends.

    Raises:
        UsageError: Other machines could reach the address, and there is no API key.
        ConfigurationError: The address cannot be opened, or a setting is wrong.
        PermanentError: The server ended unexpectedly; its log says why.
    """
    if not is_loopback(host) and not KeyFile(settings.api_keys_file).keys(Scope.INGEST):
        raise UsageError(
            f"There is no API key, so everyone who can reach {host} could send images.",
            next_step="imgpipeline keys add --name NAME --source SOURCE",
        )
    app = create_app(open_server(settings, options=options, board=board))
    run_until(app, host, port, stop, grace_s=_GRACE_S)


def serve_configured(
    settings: Settings, config: HttpConfig, options: PublishOptions, stop: threading.Event, board: Board
) -> None:
    """Serves as a source of `sources.toml`; errors as `serve`."""
    serve(config.settings(settings), config.host, config.port, stop, options=options, board=board)
