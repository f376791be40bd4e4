"""`imgpipeline sources run`: the supervisor of all sources of a file."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.output import note, stdout_console
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.settings import load_settings


def run(
    path: Annotated[Path, typer.Argument(help="The file that lists the sources.", metavar="SOURCES.TOML")],
    metrics_port: Annotated[
        int | None, typer.Option("--metrics-port", help="Serve /metrics (Prometheus) and /health on this port.")
    ] = None,
    metrics_address: Annotated[str, typer.Option("--metrics-address", help="Address of that port.")] = "127.0.0.1",
    check: Annotated[bool, typer.Option("--check", help="Only check the file.")] = False,
) -> None:
    """Run all sources of a file: restart those that fail, follow changes of the file, end gracefully on SIGTERM.

    A change of the file touches only the sources it concerns. An invalid change is refused, and everything continues as
    it was.
    """
    from imgpipeline.cli.live_table import live_table  # noqa: PLC0415 - loads OpenCV, as the others
    from imgpipeline.sources.board import Board  # noqa: PLC0415 - as above
    from imgpipeline.sources.configuration import load_sources  # noqa: PLC0415 - as above
    from imgpipeline.sources.metrics import serve_metrics  # noqa: PLC0415 - as above
    from imgpipeline.sources.supervisor import Supervisor, builder  # noqa: PLC0415 - as above
    from imgpipeline.web.ingest.app import serve_configured  # noqa: PLC0415 - as above

    if check:
        note(f"{path} is well: {counted(len(load_sources(path)), 'source')}.")
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    board = Board()
    supervisor = Supervisor(path, builder(load_settings(), serve_configured), board)
    with ExitStack() as context:
        stopping = context.enter_context(stopped_by_signals())
        if metrics_port is not None:
            context.enter_context(serve_metrics(board, metrics_port, metrics_address))
        context.enter_context(live_table(board, stdout_console()))
        supervisor.run(stopping.event)
    raise typer.Exit(stopping.exit_status)
