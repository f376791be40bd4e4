"""A limit on the sum of weights in use at a time: bytes in flight, pixels being decoded."""

import threading
from collections import deque
from types import TracebackType
from typing import Self


class WeightedLimit:
    """Admits work while the weights of all admitted work fit into a capacity; first come, first served.

    Work that is heavier than the capacity is admitted alone.
    """

    def __init__(self, capacity: int) -> None:
        """Starts with nothing admitted; the capacity is greater than 0."""
        self.capacity = capacity
        self._used = 0
        self._waiting: deque[Share] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def share(self, weight: int = 0) -> "Share":
        """Returns a share of the capacity that holds nothing yet; as a context manager it claims `weight`."""
        return Share(self, weight)

    def close(self) -> None:
        """Lets waiting and later work in at once: those who would make room have ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def admit(self, share: "Share", weight: int) -> int:
        """Waits until a weight fits and the shares that came before are admitted; returns what is counted for it."""
        weight = min(weight, self.capacity)
        with self._changed:
            self._waiting.append(share)
            self._changed.wait_for(
                lambda: self._closed or (self._waiting[0] is share and self._used + weight <= self.capacity)
            )
            self._waiting.remove(share)
            self._used += weight
            self._changed.notify_all()
        return weight

    def give_back(self, weight: int) -> None:
        """Makes a weight available again."""
        with self._changed:
            self._used -= weight
            self._changed.notify_all()


class Share:
    """What one piece of work holds of a limit. Used by one thread at a time."""

    def __init__(self, limit: WeightedLimit, weight: int) -> None:
        """Holds nothing yet; use `WeightedLimit.share`."""
        self._limit = limit
        self._wanted = weight
        self._held = 0

    def claim(self, weight: int) -> None:
        """Waits until a weight fits, and holds it until `release`. Claiming as much again returns at once."""
        if min(weight, self._limit.capacity) > self._held:
            self.release()
            self._held = self._limit.admit(self, weight)

    def release(self) -> None:
        """Gives back what is held."""
        if self._held:
            self._limit.give_back(self._held)
            self._held = 0

    def __enter__(self) -> Self:
        self.claim(self._wanted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
