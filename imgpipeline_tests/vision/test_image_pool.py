"""The threads that read and process images: how many images are in memory, and how the threads stop."""

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from imgpipeline.vision.image_pool import ImagePool, ReadImage
from imgpipeline_tests.servers.waiting import wait_until


@dataclass
class SizedWork:
    """Work on images of given sizes that notes how many bytes are in flight."""

    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    may_finish: threading.Event = field(default_factory=threading.Event)

    def read(
        self, item: int, _since_s: float | None = None, /, *, admit: Callable[[int], None] | None = None
    ) -> ReadImage | str:
        assert admit is not None
        admit(item)
        with self.lock:
            self.in_flight += item
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return ReadImage(bytes(item), 0.0)

    def look(self, read: ReadImage, /) -> str:
        self.may_finish.wait(30)
        with self.lock:
            self.in_flight -= len(read.data)
        return f"{len(read.data)} bytes"


@pytest.mark.parametrize(
    ("most_bytes", "most_in_flight"),
    [(1, 900), (900, 900), (1150, 1150), (10_000, 3000)],
    ids=["one at a time", "the largest", "two", "all"],
)
def test_the_bytes_of_images_in_flight_stay_within_their_limit(most_bytes, most_in_flight):
    """An image that is larger than the limit is worked on alone, whatever comes before and after it."""
    sizes = [100, 900, 100, 150, 250, 900, 500, 100]
    work = SizedWork()
    with closing(ImagePool(work, most_readers=8, lookers=2, most_bytes=most_bytes)) as pool:
        pending = [pool.submit(size) for size in sizes]
        work.may_finish.set()
        assert [future.result(30) for future in pending] == [f"{size} bytes" for size in sizes]
    assert work.most_in_flight <= most_in_flight


def test_a_pool_that_is_closed_leaves_no_reader_that_waits_for_room():
    work = SizedWork()
    with closing(ImagePool(work, most_readers=4, lookers=1, most_bytes=10)) as pool:
        first, *_ = [pool.submit(10) for _ in range(5)]
        wait_until(lambda: work.in_flight == 10, limit_s=60, what="the first image")
    work.may_finish.set()
    assert first.result(30) == "10 bytes"
    names = ("read-", "look-")
    wait_until(
        lambda: not any(thread.name.startswith(names) for thread in threading.enumerate()),
        limit_s=60,
        what="the pool's threads to end",
    )
