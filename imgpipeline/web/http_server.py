"""Runs an ASGI application with uvicorn until it is stopped, and tells which addresses others cannot reach."""

import ipaddress
import socket
import threading

import uvicorn
from fastapi import FastAPI

from imgpipeline.errors import ConfigurationError, PermanentError

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""What a browser on this machine sends as `Host`; another name is a page that reaches for this server from outside."""
_LOOK_S = 0.1
_MOST_CONNECTIONS = 256


def run_until(app: FastAPI, host: str, port: int, stop: threading.Event, *, grace_s: int) -> None:
    """Serves until `stop` is set; requests under way are answered first.

    Args:
        app: The application.
        host: Address to listen on.
        port: Port to listen on.
        stop: Ends the server gracefully.
        grace_s: How long requests under way may take after that, in seconds.

    Raises:
        ConfigurationError: The address cannot be opened.
        PermanentError: The server ended unexpectedly; its log says why.
    """
    # Without `proxy_headers`: X-Forwarded-For would let a client of this machine choose its address.
    config = uvicorn.Config(app, log_level="warning", access_log=False, limit_concurrency=_MOST_CONNECTIONS,
                            timeout_graceful_shutdown=grace_s, proxy_headers=False)  # fmt: skip
    server = uvicorn.Server(config)
    with _listen(host, port) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name=f"http {port}")
        thread.start()
        while thread.is_alive() and not stop.wait(_LOOK_S):
            pass
        server.should_exit = True
        thread.join()
    if not stop.is_set():
        raise PermanentError(f"The HTTP server on {host}:{port} ended.", next_step="look at its log")


def is_loopback(host: str) -> bool:
    """Tells whether only programs on this machine reach an address."""
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
