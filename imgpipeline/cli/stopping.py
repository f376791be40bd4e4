"""How commands react to Ctrl-C and SIGTERM: endless ones stop cleanly, finite ones say how far they came."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import typer

from imgpipeline.cli.output import note, progress_bar
from imgpipeline.contracts.text import counted


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
def finite_progress(what: str, topic: str, *, unit: str = "frames") -> Iterator[Callable[[int, int], None]]:
    """Shows the progress of a finite source while the context lasts. After Ctrl-C, notes how far it came.

    Args:
        what: What is being done, such as `Ingesting`.
        topic: The Kafka topic, for the note.
        unit: What is counted.

    Yields:
        A function to call with the number of announced frames and the total (0 while it is not known).

    Raises:
        typer.Exit: The user pressed Ctrl-C; the status is 130.
    """
    announced = total = 0

    def update(done: int, of: int) -> None:
        nonlocal announced, total
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
