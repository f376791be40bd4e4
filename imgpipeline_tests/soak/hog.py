"""Busy processes beside the soak: more load than the machine has cores."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_BUSY = "import signal, sys\nsignal.alarm(int(sys.argv[1]))\nwhile True:\n    pass"


@contextmanager
def hogs(count: int, *, limit_s: float) -> Iterator[None]:
    """Keeps processes busy for the time of the context.

    Args:
        count: How many.
        limit_s: They end by themselves after this, should nobody be left to end them.
    """
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY, str(int(limit_s))]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
