"""A pool of threads that turns images into outcomes: some wait for the object store, and one per core computes."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from imgpipeline.objectstore.parallel import Share, WeightedLimit
from imgpipeline.settings import Settings
from imgpipeline.vision.configured import detect_workers

COMMON_BYTES = 8 * 2**20
"""Image files up to this size, which is common for cameras, are read ahead without waiting for each other."""
_MOST_READERS = 16
_HUNGRY_S = 0.05
"""How long a looker waits for an image before it starts another reader."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Item_contra = TypeVar("Item_contra", contravariant=True)
Outcome_co = TypeVar("Outcome_co", covariant=True)


@dataclass(frozen=True, slots=True)
class ReadImage:
    """An image that was read but not yet processed; each kind of work adds its own fields."""

    data: bytes
    """The encoded image."""
    ready_at_s: float
    """Time at which it was read, by `time.perf_counter`."""


class ImageWork(Protocol[Item_contra, Outcome_co]):
    """Turns an item into its outcome in two steps, which run in different threads. Called from many threads."""

    def read(
        self, item: Item_contra, since_s: float | None = None, /, *, admit: Callable[[int], None] | None = None
    ) -> ReadImage | Outcome_co:
        """Returns the item's image; or its outcome, if there is no image to process.

        Args:
            since_s: Time at which it was submitted, by `time.perf_counter`.
            admit: Has to be called with the image's size in bytes before the image is loaded.
        """

    def look(self, read: Any, /) -> Outcome_co:
        """Decodes the image from `read` and finds the objects in it."""


@dataclass(slots=True)
class ImagePool(Generic[Item, Outcome]):
    """A pool of threads in this process. Each outcome or error arrives in its future.

    It starts with one reader. Whenever a looker waits for an image while there are items to read, another reader
    starts. So there are as many readers as the store's latency requires, and no more: every thread that wakes up takes
    a core from one that computes.
    """

    work: ImageWork[Item, Outcome]
    most_readers: int
    """Maximum number of images that are read at a time."""
    lookers: int
    """Number of images that are decoded and detected at a time."""
    most_bytes: int
    """Maximum total size of the image files that are being read, are waiting, or are being processed."""
    _to_read: "queue.SimpleQueue[tuple[Item, Future[Outcome], float] | None]" = field(default_factory=queue.SimpleQueue)
    _to_look: "queue.SimpleQueue[tuple[ReadImage, Future[Outcome], Share] | None]" = field(
        default_factory=queue.SimpleQueue
    )
    _readers: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)
    _bytes: WeightedLimit = field(init=False)

    def __post_init__(self) -> None:
        self._bytes = WeightedLimit(self.most_bytes)
        try:
            threading.Thread(target=self._read_on, name="read-1").start()
            self._readers = 1
            for number in range(self.lookers):
                threading.Thread(target=self._look_on, name=f"look-{number}").start()
        except BaseException:  # the threads that started would keep the process alive
            self.close()
            raise

    @classmethod
    def of(cls, settings: Settings, work: ImageWork[Item, Outcome]) -> "ImagePool[Item, Outcome]":
        """Returns a pool of the size in the settings."""
        ahead = settings.prefetch_images
        return cls(
            work,
            most_readers=min(_MOST_READERS, max(2, ahead // 2)),
            lookers=detect_workers(settings),
            most_bytes=max(settings.max_image_bytes, ahead * COMMON_BYTES),
        )

    def submit(self, item: Item) -> "Future[Outcome]":
        """Queues an item and returns immediately."""
        outcome: Future[Outcome] = Future()
        self._to_read.put((item, outcome, time.perf_counter()))
        return outcome

    def close(self) -> None:
        """Stops without waiting and drops work that has not started.

        Reads from a failing store may take a minute, and they keep the process alive until then.
        """
        self._closed.set()
        self._bytes.close()
        self._to_read.put(None)
        self._to_look.put(None)

    def _add_reader(self) -> None:
        with self._lock:
            if self._readers == self.most_readers or self._closed.is_set():
                return
            try:
                threading.Thread(target=self._read_on, name=f"read-{self._readers + 1}").start()
            except RuntimeError:  # no more threads available: continue with those that run
                return
            self._readers += 1

    def _read_on(self) -> None:
        while (unread := self._to_read.get()) is not None and not self._closed.is_set():
            item, outcome, since_s = unread
            if not outcome.set_running_or_notify_cancel():
                continue
            share = self._bytes.share()
            try:
                read = self.work.read(item, since_s, admit=share.claim)
            except BaseException as error:  # noqa: BLE001 - reaches the caller through the future
                share.release()
                outcome.set_exception(error)
                continue
            if isinstance(read, ReadImage):
                self._to_look.put((read, outcome, share))
            else:
                share.release()
                outcome.set_result(read)
        self._to_read.put(None)  # for the next thread

    def _look_on(self) -> None:
        while (unseen := self._next_to_look()) is not None and not self._closed.is_set():
            read, outcome, share = unseen
            try:
                outcome.set_result(self.work.look(read))
            except BaseException as error:  # noqa: BLE001 - reaches the caller through the future
                outcome.set_exception(error)
            finally:
                del unseen, read  # free the image before its share
                share.release()
        self._to_look.put(None)  # for the next thread

    def _next_to_look(self) -> "tuple[ReadImage, Future[Outcome], Share] | None":
        with contextlib.suppress(queue.Empty):
            return self._to_look.get_nowait()
        while True:  # an item may never arrive (its image is missing), or only late (the store hangs)
            if not self._to_read.empty():
                self._add_reader()
            with contextlib.suppress(queue.Empty):
                return self._to_look.get(timeout=_HUNGRY_S)
