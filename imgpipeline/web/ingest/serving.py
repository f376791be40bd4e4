"""Runs the HTTP source until it is stopped: for `serve-ingest`, or as one of the sources of a supervisor."""

import threading

from imgpipeline.errors import UsageError
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.configuration import HttpConfig
from imgpipeline.sources.options import PublishOptions
from imgpipeline.web.http_server import is_loopback, run_until
from imgpipeline.web.ingest.app import create_app, open_server
from imgpipeline.web.keys import KeyFile, Scope

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
        PermanentError: The server ended unexpectedly; its log says why.
    """
    _check_host(host, settings)
    app = create_app(open_server(settings, options=options, board=board))
    run_until(app, host, port, stop, grace_s=_GRACE_S)


def serve_configured(
    settings: Settings, config: HttpConfig, options: PublishOptions, stop: threading.Event, board: Board
) -> None:
    """Serves as a `[[source]]` of `sources.toml` says; errors as `serve`."""
    own = {name: value for name in ("api_keys_file", "dataset_root", "jobs_dir") if (value := getattr(config, name))}
    serve(settings.model_copy(update=own), config.host, config.port, stop, options=options, board=board)


def _check_host(host: str, settings: Settings) -> None:
    if not is_loopback(host) and not KeyFile(settings.api_keys_file).keys(Scope.INGEST):
        raise UsageError(
            f"Everybody who reaches {host} could send images: there is no API key.",
            next_step="imgpipeline serve-ingest keys add --source NAME",
        )
