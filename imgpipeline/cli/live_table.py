"""The live table of running sources: state, frame rates, queue, drops, last frame, clock offset and errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Event, Thread

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imgpipeline.cli.output import shown
from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.sources.board import Board, RunningSource, SourceState
from imgpipeline.sources.protocol import Settled

_COLOURS = {
    SourceState.ONLINE: "green",
    SourceState.STARTING: "yellow",
    SourceState.OFFLINE: "red",
    SourceState.RESTARTING: "red",
    SourceState.TAKEN_OVER: "red",
    SourceState.ENDED: "dim",
}


def _table_of(statuses: list[RunningSource], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("source", overflow="fold")
    table.add_column("state")
    for heading in ("fps in", "fps out", "queue", "announced", "gated", "dropped", "failed", "last frame", "clock"):
        table.add_column(heading, justify="right")
    table.add_column("", overflow="fold")
    for status in statuses:
        settled, colour = status.settled, _COLOURS[status.state]
        table.add_row(
            Text(shown(status.source)),
            Text(status.state.value, style=colour),
            f"{status.fps_in:.1f}",
            f"{status.fps_out:.1f}",
            str(status.queue),
            *(f"{settled.get(how, 0):,}" for how in Settled),
            _age(status.last_frame, now),
            "" if status.clock_offset_s is None else f"{status.clock_offset_s:+.1f} s",
            Text(shown(status.error or (f"waits for {status.blocked}" if status.blocked else ""))),
        )
    return table


@contextmanager
def live_table(
    board: Board, console: Console, clock: Clock = utc_now, *, log_interval_s: float = 60.0
) -> Iterator[None]:
    """Shows the sources of a board while the context lasts: twice a second in a terminal, in a log at the interval."""
    if console.is_terminal:
        with Live(get_renderable=lambda: _table_of(board.statuses(), clock()), console=console, refresh_per_second=2):
            yield
        return
    stop = Event()

    def show() -> None:
        while not stop.wait(log_interval_s):
            console.print(_table_of(board.statuses(), clock()))

    thread = Thread(target=show, name="live table", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        console.print(_table_of(board.statuses(), clock()))


def _age(time: datetime | None, now: datetime) -> str:
    return "" if time is None else f"{(now - time).total_seconds():.0f} s ago"
