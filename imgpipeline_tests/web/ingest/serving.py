"""Runs the HTTP source on a free port during a test."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.options import PublishOptions
from imgpipeline.web.ingest.app import serve
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.threads import in_thread
from imgpipeline_tests.servers.waiting import wait_until


@contextmanager
def serving(
    settings: Settings, *, options: PublishOptions | None = None, board: Board | None = None
) -> Iterator[httpx.Client]:
    """Serves until the context ends; yields a client with the address."""
    port = free_port()
    with (
        in_thread(lambda stop: serve(settings, LOOPBACK, port, stop, options=options, board=board)),
        httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=60) as client,
    ):
        wait_until(lambda: answers(client), limit_s=60, what="the HTTP server")
        yield client


def answers(client: httpx.Client) -> bool:
    """Returns whether the server answers."""
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False
