"""`imgpipeline serve`: pages and an API to look at frames and numbers."""

from typing import Annotated

import typer

from imgpipeline.cli.output import note
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.settings import load_settings


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Another than this machine's needs API keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8050,
) -> None:
    """Serve pages and an API to look at frames, boxes and counts, and to follow a number to its frames.

    Reads the store alone, and shows new frames a few seconds after they were processed. Ctrl-C stops.
    """
    from imgpipeline.web.viewer.access import Access  # noqa: PLC0415 - `--help` does not wait for it
    from imgpipeline.web.viewer.app import check_host, run_viewer  # noqa: PLC0415 - as above

    settings = load_settings()
    check_host(Access(settings), host, port)
    with stopped_by_signals() as stopping:
        address = f"[{host}]" if ":" in host else host
        note(f"Serving {settings.store_url} on http://{address}:{port}/. Ctrl-C stops.")
        run_viewer(settings, host, port, stopping.event)
    raise typer.Exit(stopping.exit_status)
