"""Parallel work in bounded memory: a map with a few results ahead, and a limit on the sum of weights in use."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int = 16, ahead: int = 32
) -> Iterator[Result]:
    """Yields the result of each item, in the order of the items.

    A caller may stop early: items that have not started are cancelled, items in progress are finished.

    Args:
        work: Called in threads; an error is raised in place of the result.
        items: Taken one by one as results are consumed.
        workers: Number of threads; the default is for reading small objects.
        ahead: Maximum number of items in progress or waiting to be consumed.
    """
    pending: deque[Future[Result]] = deque()
    is_abandoned = False
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except GeneratorExit:
        is_abandoned = True
        raise
    finally:
        # The garbage collector may close an abandoned generator in any thread, even in one that holds the lock that
        # `Thread.join` takes. Waiting would be a deadlock.
        pool.shutdown(wait=not is_abandoned, cancel_futures=True)


class WeightedLimit:
    """Admits work while the total weight fits into a capacity, for example bytes in flight; first come, first served.

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
        """Returns an empty share of the capacity; as a context manager it claims `weight`."""
        return Share(self, weight)

    def close(self) -> None:
        """Admits all waiting and later work at once, because the work that would make room has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def admit(self, share: "Share", weight: int) -> int:
        """Waits until earlier shares are admitted and the weight fits; returns the weight that is counted."""
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
        """Releases a weight."""
        with self._changed:
            self._used -= weight
            self._changed.notify_all()


class Share:
    """The part of a limit that one piece of work uses. Used by one thread at a time."""

    def __init__(self, limit: WeightedLimit, weight: int) -> None:
        """Makes an empty share; use `WeightedLimit.share`."""
        self._limit = limit
        self._wanted = weight
        self._held = 0

    def claim(self, weight: int) -> None:
        """Waits until a weight fits and uses it until `release`. A claim of no more than before returns at once."""
        if min(weight, self._limit.capacity) > self._held:
            self.release()
            self._held = self._limit.admit(self, weight)

    def release(self) -> None:
        """Releases the claimed weight."""
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
