"""Runs the viewer until it is stopped (`imgpipeline serve`)."""

import threading

from imgpipeline.errors import UsageError
from imgpipeline.settings import Settings
from imgpipeline.web.http_server import is_loopback, run_until
from imgpipeline.web.viewer.access import Access
from imgpipeline.web.viewer.app import create_app
from imgpipeline.web.viewer.site import open_site

_GRACE_S = 5


def serve(settings: Settings, host: str, port: int, stop: threading.Event) -> None:
    """Serves until `stop` is set.

    Args:
        settings: Name the store, the file of API keys and the trusted proxies.
        host: Address to listen on; a loopback address unless requests need an API key or a trusted proxy.
        port: Port to listen on.
        stop: Ends the server gracefully.

    Raises:
        UsageError: Others could reach the address, and nobody would be asked who they are.
        ConfigurationError: The address cannot be opened, or a setting is wrong.
        PermanentError: The server ended by itself; its log says why.
    """
    access = Access(settings)
    check_host(access, host, port)
    run_until(create_app(open_site(settings, stopping=stop), access), host, port, stop, grace_s=_GRACE_S)


def check_host(access: Access, host: str, port: int) -> None:
    """Refuses an address that others could reach, if nobody is asked who they are; errors as `serve`."""
    if not is_loopback(host) and not access.is_needed():
        raise UsageError(
            f"Everybody who reaches {host} could see all images: there is no API key.",
            next_step="make one: imgpipeline keys create --name NAME; or serve on 127.0.0.1, and from another machine: "
            f"ssh -L {port}:127.0.0.1:{port} THIS_MACHINE",
        )
