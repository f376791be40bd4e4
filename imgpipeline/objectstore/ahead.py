"""Works on many objects several at a time, with only a few results in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int) -> Iterator[Result]:
    """Yields the result of each item, in the order of the items.

    A caller may stop early: items that have not begun are cancelled, items in progress are finished.

    Args:
        work: Called in threads; an error is raised in place of the result.
        items: Taken as there is room for them, never all at once.
        workers: Items processed at a time.
        ahead: How many items at most are in progress or wait to be taken.
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
        # The garbage collector ends an abandoned generator in any thread at any point, also where this thread holds
        # the lock that `Thread.join` takes: waiting there would never end.
        pool.shutdown(wait=not is_abandoned, cancel_futures=True)
