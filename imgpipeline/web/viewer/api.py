"""The routes of the API `/api/v1` without a page: the server's status, days, and counts of labels."""

import asyncio
import json
from collections.abc import AsyncIterator
from threading import Semaphore
from time import monotonic
from typing import Any

import pyarrow as pa
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from imgpipeline.contracts.text import plain
from imgpipeline.lake.query.summaries import LabelChoice, ask_session
from imgpipeline.web.viewer.answers import day_counts
from imgpipeline.web.viewer.queries import CountQuery, Zoned
from imgpipeline.web.viewer.responses import answer_json
from imgpipeline.web.viewer.site import MOST_STREAMS, Site, ViewedSite
from imgpipeline.web.viewer.views import Asked, View, add_views

HEARTBEAT_S = 15.0
"""Shorter than the time after which proxies close a quiet connection."""
_RECONNECT_MS = 2_000
_LOOK_S = 0.25
_LONGEST_S = 600.0
"""Clients reconnect after this time, so that their API key is checked again."""


router = APIRouter(tags=["viewer"])


@router.get("/api/v1/status")
def status(request: Request, site: Site) -> Response:
    """Returns when the tables on the pages were read, and whether the store answers."""
    return answer_json(request, site.status())


@router.get("/api/v1/changes", response_class=StreamingResponse)
async def changes(site: Site) -> StreamingResponse:
    """Streams the document of `/status` now and at each change, as server-sent events named `status`."""
    if not site.streams.acquire(blocking=False):
        raise HTTPException(503, f"{MOST_STREAMS} clients are connected already; poll /api/v1/status instead")
    return _EventStream(status_events(site), site.streams)


class _EventStream(StreamingResponse):
    """Server-sent events (WHATWG HTML, section 9.2). The stream frees its place however it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], streams: Semaphore) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.release()


async def status_events(site: ViewedSite, *, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[str]:
    """Yields the events of one client until the server stops or the client has to reconnect.

    After `heartbeat_s` seconds without an event, a comment is sent.
    """
    yield f"retry: {_RECONNECT_MS}\n\n"
    sent: dict[str, Any] | None = None
    began_s = sent_s = monotonic()
    while not site.stopping.is_set() and monotonic() - began_s < _LONGEST_S:
        status = site.status()
        if status != sent:
            yield f"event: status\nid: {status['revision']}\ndata: {json.dumps(plain(status))}\n\n"
            sent, sent_s = status, monotonic()
        elif monotonic() - sent_s > heartbeat_s:
            yield ": nothing new\n\n"
            sent_s = monotonic()
        await asyncio.sleep(_LOOK_S)


def _count_labels(asked: Asked) -> pa.Table:
    lake, day, query = asked.lake, asked.day, asked.query
    sources, labels = ((name,) if name else () for name in (query.source, query.label))
    choice = LabelChoice(sources, labels, tuple(query.by.split(",")))
    key = ("label_counts", day, choice)
    return asked.site.lake.remembered(lake, key, lambda: ask_session(lake, "label_counts", [day], choice).table)


_DAYS = View(
    "/days", Zoned, lambda asked: day_counts(asked.lake), None,
    lambda asked, found: {"snapshot": asked.site.lake.state.taken_at, "days": found},
    "Lists the days with data, the latest first, with their number of frames and detections.",
)  # fmt: skip
_LABEL_COUNTS = View(
    "/label-counts", CountQuery, _count_labels, None,
    lambda asked, found: {"day": asked.day, "counts": found.to_pylist()},
    "Counts the detections of a day by label, hour or source.",
    table=lambda asked, found: (f"label-counts-{asked.day}", found),
)  # fmt: skip
add_views(router, _DAYS, _LABEL_COUNTS)
