"""`imgpipeline sources`: run the sources of a file, and show the accounting and the state of all sources."""

from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.checks import STORE_PATIENCE_S
from imgpipeline.cli.options import JsonOption, Period, RowFormat, SourceOption, expand_options
from imgpipeline.cli.output import note, observed, reasons, show_json, show_table, stdout_console
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.query.days import days_of
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.lake.query.books import BookEntry
    from imgpipeline.lake.query.source_status import SourceStatus

app = typer.Typer(help="Run sources, and show their accounting and state.")

_BOOKS = ("day", "source", "session", "state", "received", "announced", "in ledger", "duplicates", "gated", "dropped",
          "failed", "open", "difference", "observed s")  # fmt: skip
_STATUS = ("source", "state", "last frame", "last notice", "frames/s", "frames today", "dead letters", "dropped",
           "observed today", "reason")  # fmt: skip


@app.command("books")
@expand_options
def books(period: Period, source: SourceOption = None, *, rows: RowFormat) -> None:
    """Show the accounting of each session of each source, by UTC day: received, announced, gated, dropped, failed.

    An ended session balances if received = announced + gated + dropped + failed, and if the ledger has the frames that
    it announced. The figures of an open session are as of its last account; `open` counts the records after it. Exits
    with status 1 if something does not balance.
    """
    from imgpipeline.lake.query.books import BookEntry, read_books  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    span, settings = period.span(), load_settings()
    store = open_store(settings)
    entries = read_books(store, settings, None if span.is_all else days_of(store, span), source)
    names = [field.name for field in fields(BookEntry)]
    rows.show(
        names if entries else names[:3],
        [[getattr(entry, name) for name in names] for entry in entries],
        table=lambda: show_table(_BOOKS, [_book_cells(entry) for entry in entries]),
        empty=f"There is no data ({span}).",
    )
    wrong = [entry for entry in entries if not entry.balances]
    for entry in wrong:
        note(f"WRONG: {_imbalance(entry)}")
    if wrong:
        raise typer.Exit(1)


def _book_cells(entry: "BookEntry") -> list[Any]:
    return [entry.day, entry.source, entry.session, entry.state, entry.received, entry.announced, entry.in_ledger,
            entry.duplicates, entry.gated, reasons(entry.dropped) or 0,
            entry.failed, entry.open, entry.difference, entry.observed_s]  # fmt: skip


def _imbalance(entry: "BookEntry") -> str:
    named = f"{entry.source}, session {entry.session}, {entry.day}"
    if entry.unaccounted:
        return f"{named}: {counted(entry.unaccounted, 'received frame')} that no account covers."
    announced = counted(entry.announced or 0, "announced frame")
    in_ledger = counted(entry.in_ledger - entry.open, "record")
    until = " before the last account" if entry.state == "open" else ""
    return f"{named}: {announced}, but {in_ledger} in the ledger{until} ({entry.topic}/{entry.partition})."


@app.command("status")
def status(as_json: JsonOption = False) -> None:
    """Show the state of the sources of the last 30 days, from their notices and frames in the ledger.

    A source is `online`, `offline` or `ended` by its last notice, and `silent` if nothing came from it for longer than
    IMGPIPELINE_SOURCE_SILENT_S. Counts cover the current UTC day. Does not need Kafka.
    """
    from imgpipeline.lake.query.source_status import read_source_status  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    settings = load_settings()
    found = read_source_status(open_store(settings), settings, now=utc_now())
    if as_json:
        show_json([{field.name: getattr(each, field.name) for field in fields(each)} for each in found])
    elif found:
        show_table(_STATUS, [_status_cells(each) for each in found])
    else:
        note("No source has sent anything in the last 30 days.")


def _status_cells(each: "SourceStatus") -> list[Any]:
    return [each.source, each.state, each.last_frame, each.last_notice, each.frames_per_s, each.frames_today,
            each.dead_letters_today, reasons(each.dropped_today) or 0, observed(each.observed_today_s),
            each.reason]  # fmt: skip


@app.command("run")
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
    from imgpipeline.cli.live_table import live_table  # noqa: PLC0415 - loads OpenCV, like the others
    from imgpipeline.detect.state import DetectionCollector  # noqa: PLC0415 - as above
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - as above
    from imgpipeline.sources.board import Board  # noqa: PLC0415 - as above
    from imgpipeline.sources.configuration import load_sources, problem_of  # noqa: PLC0415 - as above
    from imgpipeline.sources.metrics import serve_metrics  # noqa: PLC0415 - as above
    from imgpipeline.sources.supervisor import Supervisor, builder  # noqa: PLC0415 - as above
    from imgpipeline.web.ingest.app import serve_configured  # noqa: PLC0415 - as above

    settings = load_settings()
    if check:
        sources = load_sources(path)
        problems = [f'source "{one.name}": {problem}' for one in sources if (problem := problem_of(one, settings))]
        note("\n".join(problems) or f"{path} is valid: {counted(len(sources), 'source')}.")
        raise typer.Exit(1 if problems else 0)
    board = Board()
    supervisor = Supervisor(path, builder(settings, serve_configured), board)
    with ExitStack() as context:
        stopping = context.enter_context(stopped_by_signals())
        if metrics_port is not None:
            detection = DetectionCollector(open_store(settings, patience_s=STORE_PATIENCE_S))
            context.enter_context(serve_metrics(board, metrics_port, metrics_address, also=detection))
        context.enter_context(live_table(board, stdout_console()))
        supervisor.run(stopping.event)
    raise typer.Exit(stopping.exit_status)
