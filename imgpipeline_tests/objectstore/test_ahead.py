"""Work on many objects, several at a time."""

import threading
from collections.abc import Iterator

import pytest

from imgpipeline.objectstore.ahead import map_ahead


def test_results_come_in_the_order_of_the_items_whichever_is_done_first():
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(60)
        if item == 1:
            second_is_done.set()
        return item * 10

    assert list(map_ahead(work, range(20), workers=4, ahead=8)) == [n * 10 for n in range(20)]


def test_no_more_items_are_taken_than_there_is_room_for():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = map_ahead(lambda item: item, items(), workers=2, ahead=5)
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) == 6
    results.close()  # type: ignore[attr-defined]  # a generator


def test_an_error_is_raised_in_the_place_of_its_result():
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("the third")
        return item

    results = map_ahead(work, range(5), workers=4, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)


def test_a_generator_that_is_abandoned_does_not_wait_for_its_threads():
    """The garbage collector may end it in any thread, also in one that holds a lock that the waiting needs."""
    in_progress, release, ended = threading.Event(), threading.Event(), threading.Event()
    worked: list[int] = []

    def work(item: int) -> int:
        worked.append(item)
        if item:
            in_progress.set()
            assert release.wait(120)
            ended.set()
        return item

    results = map_ahead(work, range(5), workers=1, ahead=4)
    assert next(results) == 0
    assert in_progress.wait(60)
    closing = threading.Thread(target=results.close)  # type: ignore[attr-defined]  # a generator
    closing.start()
    closing.join(60)
    is_closed = not closing.is_alive()
    release.set()
    assert is_closed
    assert ended.wait(60)
    closing.join()
    assert worked == [0, 1], "what had not begun was cancelled"
