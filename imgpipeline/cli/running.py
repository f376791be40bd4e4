"""How commands run until they are stopped: Ctrl-C and SIGTERM, the progress of a source, the live table of sources."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imgpipeline.cli.output import note, progress_bar, shown
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.sources.board import Board, RunningSource
from imgpipeline.sources.protocol import Settled

_COLOURS = {
    "online": "green", "starting": "yellow", "offline": "red", "restarting": "red", "taken over": "red", "ended": "dim",
}  # fmt: skip


@dataclass(slots=True)
class Stopping:
    """Whether and why a command is asked to stop."""

    event: threading.Event = field(default_factory=threading.Event)
    """Set when the command is asked to stop."""
    exit_status: int = 0
    """130 after Ctrl-C, otherwise 0."""


@contextmanager
def stopped_by_signals() -> Iterator[Stopping]:
    """Sets the event at the first signal, so the command finishes its current work; a second signal kills it."""
    stopping = Stopping()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: Any) -> None:
        stopping.exit_status = 130 if number == signal.SIGINT else 0
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        stopping.event.set()

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def finite_progress(
    what: str, topic: str, *, unit: str = "frames", note_every: int = 0
) -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of a finite source while the context lasts. After Ctrl-C, notes how far it came.

    Args:
        what: What is being done, such as `Ingesting`.
        topic: The Kafka topic, for the note.
        unit: What is counted.
        note_every: Also note the progress at about every such number, for logs; 0: never.

    Yields:
        A function to call with the number of announced frames and the total (0 while it is not known).

    Raises:
        typer.Exit: The user pressed Ctrl-C; the status is 130.
    """
    announced = total = 0

    def update(done: int, of: int) -> None:
        nonlocal announced, total
        if note_every and done // note_every > announced // note_every:
            note(f"{done:,} {unit} announced.")
        announced, total = done, of
        show(done, of)

    try:
        with progress_bar(what, unit=unit) as show:
            yield update
    except KeyboardInterrupt:
        done = f"after {announced:,} of {counted(total, 'frame')}" if total else f"after {counted(announced, 'frame')}"
        note(f"Interrupted {done if announced else 'before any frame was announced'} (topic {topic}).")
        note("It is safe to run the same command again: frames that are announced twice are counted once.")
        raise typer.Exit(130) from None


def _table_of(statuses: "list[RunningSource]", now: datetime) -> "Table":
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("source", overflow="fold")
    table.add_column("state")
    for heading in ("fps in", "fps out", "queue", "announced", "gated", "dropped", "failed", "last frame", "clock"):
        table.add_column(heading, justify="right")
    table.add_column("", overflow="fold")
    for status in statuses:
        settled, colour = status.settled, _COLOURS[status.state.value]
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
    board: "Board", console: "Console", clock: Clock = utc_now, *, log_interval_s: float = 60.0
) -> Iterator[None]:
    """Shows the sources of a board while the context lasts: twice a second in a terminal, in a log at the interval."""
    if console.is_terminal:
        with Live(get_renderable=lambda: _table_of(board.statuses(), clock()), console=console, refresh_per_second=2):
            yield
        return
    stop = threading.Event()

    def show() -> None:
        while not stop.wait(log_interval_s):
            console.print(_table_of(board.statuses(), clock()))

    thread = threading.Thread(target=show, name="live table", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        console.print(_table_of(board.statuses(), clock()))


def _age(time: datetime | None, now: datetime) -> str:
    return "" if time is None else f"{(now - time).total_seconds():.0f} s ago"
