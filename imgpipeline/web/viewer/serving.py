"""Runs the viewer until it is stopped (`imgpipeline serve`)."""

import threading

from imgpipeline.errors import UsageError
from imgpipeline.settings import Settings
from imgpipeline.web.http_server import is_loopback, run_until
from imgpipeline.web.viewer.app import create_app
from imgpipeline.web.viewer.site import open_site

_GRACE_S = 5


def serve(settings: Settings, host: str, port: int, stop: threading.Event) -> None:
    """Serves until `stop` is set.

    Args:
        settings: Name the store.
        host: Address to listen on; a loopback address.
        port: Port to listen on.
        stop: Ends the server gracefully.

    Raises:
        UsageError: Others could reach the address.
        ConfigurationError: The address cannot be opened, or a setting is wrong.
        PermanentError: The server ended by itself; its log says why.
    """
    check_host(host, port)
    run_until(create_app(open_site(settings)), host, port, stop, grace_s=_GRACE_S)


def check_host(host: str, port: int) -> None:
    """Refuses an address that others could reach; errors as `serve`."""
    if not is_loopback(host):
        raise UsageError(
            f"Everybody who reaches {host} could see all images: the viewer has no authentication yet.",
            next_step=f"serve on 127.0.0.1, and from another machine: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE",
        )
