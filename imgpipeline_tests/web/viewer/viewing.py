"""Runs the viewer on a free port during a test."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any

import httpx

from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.settings import Settings
from imgpipeline.web.viewer.app import run_viewer
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.threads import in_thread
from imgpipeline_tests.servers.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Viewer:
    """A running viewer."""

    http: httpx.Client
    """Client with the address of the viewer."""

    def json(self, path: str, **parameters: object) -> Any:
        """Return the JSON of a successful request."""
        answer = self.get(path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str, **parameters: object) -> httpx.Response:
        """Return the response to a request."""
        return self.http.get(path, params={name: str(value) for name, value in parameters.items()} or None)

    def status(self) -> Any:
        """Return the document of `/api/v1/status`."""
        return self.json("/api/v1/status")


@contextmanager
def viewing(settings: Settings, port: int | None = None, *, clock: Clock = utc_now) -> Iterator[Viewer]:
    """Serve until the context ends, on a free port unless one is given."""
    chosen = port or free_port()
    with (
        in_thread(lambda stop: run_viewer(settings, LOOPBACK, chosen, stop, clock)),
        httpx.Client(base_url=f"http://{LOOPBACK}:{chosen}", timeout=60) as http,
    ):
        wait_until(lambda: _answers(http), limit_s=60, what="the viewer")
        yield Viewer(http)


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/api/v1/status").status_code in (200, 401)
    except httpx.TransportError:
        return False


def links(page: str, start: str) -> list[str]:
    """Return the links of a page whose address starts like this."""
    return [unescape(found) for found in re.findall(r'href="([^"]*)"', page) if unescape(found).startswith(start)]
