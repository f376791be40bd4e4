"""Runs something in a thread of the test until it is told to stop."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_thread(run: Callable[[threading.Event], object]) -> Iterator[threading.Event]:
    """Run until the context ends, which sets the event that `run` gets."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
