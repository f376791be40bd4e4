"""Runs an ASGI application with uvicorn until it is stopped."""

import asyncio
import ipaddress
import socket
import sys
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgpipeline.errors import ConfigurationError, PermanentError

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""`Host` headers of browsers on this machine; any other name comes from a foreign page (DNS rebinding)."""
_LOOK_S = 0.1
_MOST_CONNECTIONS = 256
_HEAD_LIMIT_S = 10.0
"""Time limit for the head of a request."""
_BODY_LIMIT_S = 30.0
"""Time limit for a body, plus its size divided by `_SLOWEST_BYTES_PER_S`; and for the rest of a refused one."""
_SLOWEST_BYTES_PER_S = 10_000
_UNREAD_LIMIT_S = 30
"""Time after which a connection closes if the client reads nothing."""


def run_until(app: FastAPI, host: str, port: int, stop: threading.Event, *, grace_s: int) -> None:
    """Serves until `stop` is set, then gives requests in progress `grace_s` seconds to finish.

    Raises:
        ConfigurationError: The address cannot be opened.
        PermanentError: The server stopped unexpectedly; its log says why.
    """
    # `proxy_headers` would let a client on this machine choose its address by X-Forwarded-For.
    config = uvicorn.Config(
        app,
        log_config=None,  # it logs as this process does
        log_level="warning",
        access_log=False,
        limit_concurrency=_MOST_CONNECTIONS,
        http=_ImpatientProtocol,
        timeout_graceful_shutdown=grace_s,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    with _listen(host, port) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name=f"http {port}")
        thread.start()
        while thread.is_alive() and not stop.wait(_LOOK_S):
            pass
        server.should_exit = True
        thread.join()
    if not stop.is_set():
        raise PermanentError(f"The HTTP server on {host}:{port} stopped unexpectedly.", next_step="check its log")


class _ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that closes the connections of stalled clients.

    uvicorn waits forever for the rest of a request, and for a client that does not read its response, so a few hundred
    silent clients would occupy all connections.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        super().connection_made(transport)
        if sys.platform == "linux":  # tcp(7): closes the connection if data stays unacknowledged this long
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_LIMIT_S * 1000)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_waiting()
            if self.cycle is not None and self.cycle.more_body:
                self._await_body()

    def on_response_complete(self) -> None:
        is_body_unread = self.cycle.more_body  # uvicorn discards it; closing would reset the connection
        super().on_response_complete()
        self._stop_waiting()
        self._await_head(_BODY_LIMIT_S if is_body_unread else _HEAD_LIMIT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self, limit_s: float = _HEAD_LIMIT_S) -> None:
        self._late = self.loop.call_later(limit_s, self._give_up)

    def _await_body(self) -> None:
        sizes = [int(value) for name, value in self.headers if name == b"content-length"]
        self._late = self.loop.call_later(_BODY_LIMIT_S + sum(sizes) / _SLOWEST_BYTES_PER_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()

    def _give_up(self) -> None:
        if (
            self.cycle is None or self.cycle.response_complete or self.cycle.more_body
        ):  # otherwise a pipelined request is in progress
            self.transport.close()


def page_url(host: str, port: int) -> str:
    """Returns the URL of the server's first page; an IPv6 address is in brackets."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def is_loopback(host: str) -> bool:
    """Returns whether only programs on this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"{host}:{port} cannot be opened: {error.strerror or error}.", next_step="choose another --host or --port"
        ) from error
