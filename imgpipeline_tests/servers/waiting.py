"""Waiting for a condition with a limit: the only way in which tests let time pass."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], *, limit_s: float, what: str, interval_s: float = 0.02) -> None:
    """Return as soon as the condition holds.

    Args:
        condition: Asked again and again; an error that it raises ends the wait.
        limit_s: How long to wait at most, in seconds.
        what: What is waited for, as the end of the sentence "waited in vain for …".
        interval_s: Pause between two questions, in seconds.

    Raises:
        TimeoutError: The condition did not hold within the limit.
    """
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"waited {limit_s:g} s in vain for {what}")
        time.sleep(interval_s)
