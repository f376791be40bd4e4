"""The HTTP source on a free port, beside the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from imgpipeline.settings import Settings
from imgpipeline.web.ingest.app import create_app, open_server
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.waiting import wait_until


@contextmanager
def serving(settings: Settings) -> Iterator[httpx.Client]:
    """Serve until the context ends; the client knows the address."""
    port = free_port()
    config = uvicorn.Config(create_app(open_server(settings)), host=LOOPBACK, port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, limit_s=30, what="the HTTP server")
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(60)
