"""Runs the HTTP source until it is stopped: for `serve-ingest`, or as one of the sources of a supervisor."""

import ipaddress
import socket
import threading

import uvicorn

from imgpipeline.errors import ConfigurationError, PermanentError, UsageError
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.configuration import HttpConfig
from imgpipeline.sources.options import PublishOptions
from imgpipeline.web.ingest.app import create_app, open_server
from imgpipeline.web.ingest.keys import KeyFile

_LOOK_S = 0.1
_MOST_CONNECTIONS = 256
_GRACE_S = 40


def serve(
    settings: Settings,
    host: str,
    port: int,
    stop: threading.Event,
    *,
    options: PublishOptions | None = None,
    board: Board | None = None,
) -> None:
    """Serves until `stop` is set; what has arrived is announced first.

    Args:
        settings: Name store, Kafka, keys and videos.
        host: Address to listen on.
        port: Port to listen on.
        stop: Ends the server gracefully.
        options: How to publish.
        board: Told what happens to each source.

    Raises:
        UsageError: Others could reach the address, and there is no API key.
        ConfigurationError: The address cannot be opened, or a setting is wrong.
        PermanentError: The server ended by itself; its log says why.
    """
    _check_host(host, settings)
    app = create_app(open_server(settings, options=options, board=board))
    config = uvicorn.Config(app, log_level="warning", access_log=False, limit_concurrency=_MOST_CONNECTIONS,
                            timeout_graceful_shutdown=_GRACE_S)  # fmt: skip
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


def serve_configured(
    settings: Settings, config: HttpConfig, options: PublishOptions, stop: threading.Event, board: Board
) -> None:
    """Serves as a `[[source]]` of `sources.toml` says; errors as `serve`."""
    own = {name: value for name in ("api_keys_file", "dataset_root", "jobs_dir") if (value := getattr(config, name))}
    serve(settings.model_copy(update=own), config.host, config.port, stop, options=options, board=board)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"{host}:{port} cannot be opened: {error.strerror or error}.", next_step="choose another --host or --port"
        ) from error


def _check_host(host: str, settings: Settings) -> None:
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback and not KeyFile(settings.api_keys_file).keys():
        raise UsageError(
            f"Everybody who reaches {host} could send images: there is no API key.",
            next_step="imgpipeline serve-ingest keys add --source NAME",
        )
