"""Work is admitted while its weights fit, first come first served, and never more."""

import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.objectstore.weighted_limit import Share, WeightedLimit
from imgpipeline_tests.examples import examples


def claimed(share: Share, weight: int) -> threading.Event:
    """Claim in a thread, and return what is set once it is admitted."""
    admitted = threading.Event()
    threading.Thread(target=lambda: (share.claim(weight), admitted.set()), daemon=True).start()
    return admitted


@settings(max_examples=examples(30))
@given(st.integers(1, 20), st.lists(st.integers(1, 30), max_size=40))
def test_what_is_admitted_fits_and_everything_is_admitted_in_the_end(capacity: int, weights: list[int]):
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


def test_heavy_work_is_not_overtaken_for_ever_by_light_work():
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
