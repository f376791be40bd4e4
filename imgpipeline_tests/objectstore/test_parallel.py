"""Results keep the order of the items; a limit admits work first come, first served, while the weights fit."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.objectstore.parallel import Share, WeightedLimit, map_ahead
from imgpipeline_tests.examples import examples


def test_results_keep_the_order_of_the_items():
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(60)
        if item == 1:
            second_is_done.set()
        return item * 10

    assert list(map_ahead(work, range(20), workers=4, ahead=8)) == [n * 10 for n in range(20)]


def test_no_more_items_are_taken_than_may_be_pending():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = map_ahead(lambda item: item, items(), workers=2, ahead=5)
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) == 6
    results.close()


def test_an_error_is_raised_in_place_of_the_result():
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("the third")
        return item

    results = map_ahead(work, range(5), workers=4, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)


def test_an_abandoned_generator_does_not_wait_for_its_threads():
    """The garbage collector may close the generator in any thread, even in one that holds a lock the wait needs."""
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
    closing = threading.Thread(target=results.close)
    closing.start()
    closing.join(60)
    is_closed = not closing.is_alive()
    release.set()
    assert is_closed
    assert ended.wait(60)
    closing.join()
    assert worked == [0, 1], "items that had not started were cancelled"


def claimed(share: Share, weight: int) -> threading.Event:
    """Claim in a thread; return the event that is set when the claim is admitted."""
    admitted = threading.Event()
    threading.Thread(target=lambda: (share.claim(weight), admitted.set()), daemon=True).start()
    return admitted


@settings(max_examples=examples(30))
@given(st.integers(1, 20), st.lists(st.integers(1, 30), max_size=40))
def test_what_is_admitted_fits_and_everything_is_admitted_in_the_end(capacity, weights):
    limit, lock, used, most = WeightedLimit(capacity), threading.Lock(), [0], [0]

    def work(weight: int) -> None:
        with limit.share(weight):
            with lock:
                used[0] += min(weight, capacity)
                most[0] = max(most[0], used[0])
            with lock:
                used[0] -= min(weight, capacity)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, weights))
    assert most[0] <= capacity
    with limit.share(capacity):  # nothing is left over
        pass


def test_light_work_does_not_starve_heavy_work():
    limit = WeightedLimit(10)
    first, heavy, light = limit.share(), limit.share(), limit.share()
    first.claim(5)
    heavy_admitted = claimed(heavy, 10)
    assert not heavy_admitted.wait(0.05)
    light_admitted = claimed(light, 1)
    assert not light_admitted.wait(0.05)
    first.release()
    assert heavy_admitted.wait(30)
    assert not light_admitted.is_set()
    heavy.release()
    assert light_admitted.wait(30)


def test_claiming_as_much_again_returns_at_once_and_counts_once():
    """A request that is repeated claims the size of its answer again."""
    limit = WeightedLimit(10)
    share = limit.share()
    for _ in range(3):
        share.claim(10)
    share.claim(4)
    share.release()
    share.release()
    with limit.share(10):
        pass


def test_a_closed_limit_admits_everybody():
    limit = WeightedLimit(10)
    limit.share().claim(10)
    waiting = claimed(limit.share(), 10)
    assert not waiting.wait(0.05)
    limit.close()
    assert waiting.wait(30)
    limit.share().claim(10)
