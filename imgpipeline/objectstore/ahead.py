"""Doing work on many objects several at a time, without holding more than a few results in memory.

Owns the window of work that is under way. What is done to an object belongs to the caller.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int) -> Iterator[Result]:
    """Yields the result of each item, in the order of the items.

    Args:
        work: Called in threads; what it raises is raised in the place of its result.
        items: Taken as room comes, never all at once.
        workers: How many are worked on at a time.
        ahead: How many are under way or waiting to be taken, at most.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
