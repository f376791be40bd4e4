"""Tells browsers at once that the tables have something new, by server-sent events (WHATWG HTML, section 9.2)."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from imgpipeline.contracts.text import plain
from imgpipeline.web.viewer.site import ViewedSite

MOST_STREAMS = 64
"""Clients that are told at the same time; fewer than the connections of the server, so that pages always answer."""
HEARTBEAT_S = 15.0
"""Shorter than the time after which proxies close a quiet connection."""
_RECONNECT_MS = 2_000
_LOOK_S = 0.25
_LONGEST_S = 600.0
"""After this a client connects again, and its API key is checked again."""


@dataclass(slots=True)
class _Streams:
    """How many clients are connected."""

    open: int = 0


class _EventStream(StreamingResponse):
    """A stream that gives its place back however it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], streams: _Streams) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1


def change_routes(site: ViewedSite) -> APIRouter:
    """Returns the route.

    Args:
        site: Its state is told.
    """
    router = APIRouter(prefix="/api/v1", tags=["viewer"])
    streams = _Streams()

    @router.get("/changes", response_class=StreamingResponse)
    async def changes() -> StreamingResponse:
        """The document of `/status` now and whenever it changes, as server-sent events named `status`."""
        if streams.open >= MOST_STREAMS:
            raise HTTPException(503, f"{MOST_STREAMS} clients already listen; ask /api/v1/status instead")
        streams.open += 1
        return _EventStream(status_events(site), streams)

    return router


async def status_events(site: ViewedSite, *, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[str]:
    """Yields the events of one client until the server ends or the client has to connect again.

    Args:
        site: Its state is told.
        heartbeat_s: A comment is sent after so many seconds without an event.
    """
    yield f"retry: {_RECONNECT_MS}\n\n"
    told: dict[str, Any] | None = None
    began_s = said_s = monotonic()
    while not site.stopping.is_set() and monotonic() - began_s < _LONGEST_S:
        status = site.status()
        if status != told:
            yield f"event: status\nid: {status['revision']}\ndata: {json.dumps(plain(status))}\n\n"
            told, said_s = status, monotonic()
        elif monotonic() - said_s > heartbeat_s:
            yield ": nothing new\n\n"
            said_s = monotonic()
        await asyncio.sleep(_LOOK_S)
