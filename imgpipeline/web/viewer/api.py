"""The routes of the API `/api/v1` without a page: the server's status, days, and counts of labels."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pyarrow as pa
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from imgpipeline.contracts.text import plain
from imgpipeline.lake.query.summaries import LabelChoice, ask_session
from imgpipeline.web.viewer.answers import day_counts
from imgpipeline.web.viewer.queries import CountQuery, Zoned
from imgpipeline.web.viewer.responses import answer_json
from imgpipeline.web.viewer.site import MOST_STREAMS, Site
from imgpipeline.web.viewer.views import Asked, View, add_views

_RECONNECT_MS = 2_000
_LOOK_S = 0.25
_LONGEST_S = 600.0
"""Clients reconnect after this time, so that their API key is checked again."""


router = APIRouter(tags=["viewer"])


@router.get("/api/v1/status")
def status(request: Request, site: Site) -> Response:
    """Returns when the tables on the pages were read, and whether the store answers."""
    return answer_json(request, site.status())


async def _place(site: Site) -> AsyncIterator[None]:
    """Takes a place for a client until its stream ends."""
    if not site.streams.acquire(blocking=False):
        raise HTTPException(503, f"{MOST_STREAMS} clients are connected already; poll /api/v1/status instead")
    try:
        yield
    finally:
        site.streams.release()


@router.get("/api/v1/changes", response_class=EventSourceResponse, dependencies=[Depends(_place)])
async def changes(site: Site) -> AsyncIterator[ServerSentEvent]:
    """Streams the document of `/status` now and at each change, as server-sent events named `status`."""
    sent: dict[str, Any] | None = None
    began_s = monotonic()
    while not site.stopping.is_set() and monotonic() - began_s < _LONGEST_S:
        status = site.status()
        if status != sent:
            sent, revision = status, str(status["revision"])
            yield ServerSentEvent(data=plain(status), event="status", id=revision, retry=_RECONNECT_MS)
        await asyncio.sleep(_LOOK_S)


def _count_labels(asked: Asked) -> pa.Table:
    lake, day, query = asked.lake, asked.day, asked.query
    sources, labels = ((name,) if name else () for name in (query.source, query.label))
    choice = LabelChoice(sources, labels, tuple(query.by.split(",")))
    key = ("label_counts", day, choice)
    return asked.remembered(key, lambda: ask_session(lake, "label_counts", [day], choice).table)


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
