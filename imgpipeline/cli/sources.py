"""`imgpipeline sources`: run the sources of a file, and show the accounting and the state of all sources."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.options import STORE_PATIENCE_S, Period, RowFormat, SourceOption, command, open_site
from imgpipeline.cli.output import note, record_of, stdout_console
from imgpipeline.cli.running import live_table, stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.query.books import BookEntry, read_books
from imgpipeline.lake.query.days import days_of
from imgpipeline.lake.query.source_status import read_source_status
from imgpipeline.settings import load_settings
from imgpipeline.settings.logs import writes_json

app = typer.Typer()

_BOOKS = ("day", "source", "session", "state", "received", "announced", "in_ledger", "duplicates", "gated", "dropped",
          "failed", "open", "difference", "observed_s")  # fmt: skip
_SOURCES = ("source", "state", "last_frame", "last_notice", "frames_per_s", "frames_today", "dead_letters_today",
            "dropped_today", "observed_today_s", "reason")  # fmt: skip


@command(app, "books")
def books(period: Period, source: SourceOption = None, *, rows: RowFormat) -> None:
    """Show the accounting of each session of each source, by UTC day: received, announced, gated, dropped, failed.

    An ended session balances if received = announced + gated + dropped + failed, and if the ledger has the frames that
    it announced. The figures of an open session are as of its last account; `open` counts the records after it. Exits
    with status 1 if something does not balance.
    """
    span = period.span()
    settings, store = open_site()
    entries = read_books(store, settings, None if span.is_all else days_of(store, span), source)
    fields = None if entries else ("day", "source", "session")
    rows.show([record_of(entry) for entry in entries], _BOOKS, fields=fields, empty=f"There is no data ({span}).")
    wrong = [entry for entry in entries if not entry.balances]
    for entry in wrong:
        note(f"WRONG: {_imbalance(entry)}")
    if wrong:
        raise typer.Exit(1)


def _imbalance(entry: "BookEntry") -> str:
    named = f"{entry.source}, session {entry.session}, {entry.day}"
    if entry.unaccounted:
        return f"{named}: {counted(entry.unaccounted, 'received frame')} that no account covers."
    announced = counted(entry.announced or 0, "announced frame")
    in_ledger = counted(entry.in_ledger - entry.open, "record")
    until = " before the last account" if entry.state == "open" else ""
    return f"{named}: {announced}, but {in_ledger} in the ledger{until} ({entry.topic}/{entry.partition})."


@command(app, "list")
def list_sources(rows: RowFormat) -> None:
    """List the sources of the last 30 days with their state, from their notices and frames in the ledger.

    A source is `online`, `offline` or `ended` by its last notice, and `silent` if nothing came from it for longer than
    IMGPIPELINE_SOURCE_SILENT_S. Counts cover the current UTC day. Does not need Kafka.
    """
    settings, store = open_site()
    found = [record_of(each) for each in read_source_status(store, settings, now=utc_now())]
    rows.show(found, _SOURCES, empty="No source has sent anything in the last 30 days.")


@command(app, "run")
def run(
    path: Annotated[Path, typer.Argument(help="The file that lists the sources.", metavar="SOURCES.TOML")],
    metrics_port: Annotated[
        int | None, typer.Option("--metrics-port", help="Serve /metrics (Prometheus) and /health on this port.")
    ] = None,
    metrics_address: Annotated[str, typer.Option("--metrics-address", help="Address of that port.")] = "127.0.0.1",
    check: Annotated[bool, typer.Option("--check", help="Only check the file, and what it names.")] = False,
) -> None:
    """Run all sources of a file: restart failed ones, follow changes of the file, stop cleanly on SIGTERM.

    A change of the file restarts only the sources that it concerns. An invalid change is rejected, and all sources
    continue unchanged.
    """
    from imgpipeline.detect.state import DetectionCollector
    from imgpipeline.objectstore import open_store
    from imgpipeline.sources.board import Board
    from imgpipeline.sources.configuration import load_sources, problem_of
    from imgpipeline.sources.metrics import serve_metrics
    from imgpipeline.sources.supervisor import Supervisor, runner
    from imgpipeline.web.ingest.app import serve_configured

    settings = load_settings()
    if check:
        sources = load_sources(path)
        problems = [f'source "{one.name}": {problem}' for one in sources if (problem := problem_of(one, settings))]
        note("\n".join(problems) or f"{path} is valid: {counted(len(sources), 'source')}.")
        raise typer.Exit(1 if problems else 0)
    board = Board()
    supervisor = Supervisor(path, runner(settings, serve_configured), board)
    with ExitStack() as context:
        stopping = context.enter_context(stopped_by_signals())
        if metrics_port is not None:
            detection = DetectionCollector(open_store(settings, patience_s=STORE_PATIENCE_S))
            context.enter_context(serve_metrics(board, metrics_port, metrics_address, also=detection))
        if not writes_json():
            context.enter_context(live_table(board, stdout_console()))
        supervisor.run(stopping.event)
    raise typer.Exit(stopping.exit_status)
