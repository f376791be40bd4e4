"""Ctrl-C and SIGTERM end a command that runs until it is stopped: it finishes what it has begun."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Stopping:
    """Whether and why a command is to end."""

    event: threading.Event = field(default_factory=threading.Event)
    """Set when it is to end."""
    exit_status: int = 0
    """130 after Ctrl-C, otherwise 0."""


@contextmanager
def stopped_by_signals() -> Iterator[Stopping]:
    """Sets the event at the first signal; a second one ends the process as usual."""
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
