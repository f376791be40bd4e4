"""Server-sent events: news at once, a bounded number of clients, and an end with the server."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import httpx
import pytest

from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.web.viewer.changes import MOST_STREAMS, status_events
from imgpipeline.web.viewer.site import open_site
from imgpipeline_tests.ledger.samples import append, frames, write_chain
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

CHANGES = "/api/v1/changes"


def statuses(lines: Iterator[str]) -> Iterator[Any]:
    """Yield the documents of the events."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.medium
def test_a_client_is_told_the_status_now_and_when_a_segment_arrives_until_the_server_ends(folder: Settings):
    chain = write_chain(open_store(folder), frames(0, 3))
    server = contextlib.ExitStack()
    viewer = server.enter_context(viewing(folder))
    with server, httpx.stream("GET", viewer.http.base_url.join(CHANGES), timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = statuses(answer.iter_lines())
        first = next(told)
        assert first["revision"] > 0
        append(chain, frames(3, 5, date(2026, 1, 9)))
        assert next(one for one in told if one["revision"] > first["revision"])["problem"] is None
        assert viewer.json("/api/v1/frames")["matching"] == 5
        server.close()
        assert list(told) == []  # a stream that is cut off raises


@pytest.mark.medium
def test_as_many_clients_as_the_limit_are_told_and_a_place_is_free_when_one_leaves(folder: Settings):
    write_chain(open_store(folder), frames(0, 3))
    with viewing(folder) as viewer, contextlib.ExitStack() as others:
        with viewer.http.stream("GET", CHANGES) as leaving:
            assert leaving.status_code == 200
            for _ in range(MOST_STREAMS - 1):
                assert others.enter_context(viewer.http.stream("GET", CHANGES)).status_code == 200
            refused = viewer.get(CHANGES)
            assert (refused.status_code, "/api/v1/status" in refused.text) == (503, True)
            assert viewer.get("/live").status_code == 200
        wait_until(lambda: is_told(viewer), limit_s=60, what="the place of the client that left")


def is_told(viewer: Viewer) -> bool:
    with viewer.http.stream("GET", CHANGES) as answer:
        return answer.status_code == 200


@pytest.mark.medium
def test_a_quiet_stream_has_a_heartbeat_and_ends_with_the_server(folder: Settings):
    site = open_site(folder)

    async def listen() -> list[str]:
        heard = []
        async for event in status_events(site, heartbeat_s=0.01):
            heard.append(event)
            if event.startswith(":"):
                site.stopping.set()
        return heard

    retry, status, heartbeat = asyncio.run(asyncio.wait_for(listen(), 60))
    assert retry.startswith("retry: ")
    assert status.startswith("event: status\nid: 0\ndata: {")
    assert heartbeat == ": nothing new\n\n"
