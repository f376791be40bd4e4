"""Waits as long as there is progress, to tell a slow machine from a stuck server."""

import time
from collections.abc import Callable


class Patience:
    """Ends when nothing has changed for a while, or after a maximum time."""

    def __init__(self, quiet_limit_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts to wait.

        Args:
            quiet_limit_s: Longest time without a change.
            longest_s: Longest time in total.
            clock: Seconds, monotonic.
        """
        self.quiet_limit_s = quiet_limit_s
        self.longest_s = longest_s
        self._clock = clock
        self._began_s = self._moved_s = clock()
        self._signs: object = None

    def why_over(self, signs: object) -> str | None:
        """Checks for progress.

        Args:
            signs: Values that change as long as there is progress; compared with those of the last call.

        Returns:
            Why waiting is over, or None.
        """
        now_s = self._clock()
        if signs != self._signs:
            self._signs, self._moved_s = signs, now_s
        if now_s - self._moved_s >= self.quiet_limit_s:
            return f"there has been no progress for {self.quiet_limit_s:g} s"
        if now_s - self._began_s >= self.longest_s:
            return f"it has not finished after {self.longest_s:g} s"
        return None
