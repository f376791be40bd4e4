"""The threads that work on records: many that wait for the object store, and as many as there are cores that compute.

Owns which thread does what. It promises that a record's outcome, or the error that it ended in, arrives in its future,
until the pool is closed. The order of outcomes belongs to `workers`.
"""

import contextlib
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from imgpipeline.contracts.messages import KafkaRecord
from imgpipeline.contracts.outcomes import RecordOutcome
from imgpipeline.detect.work import FrameWork, ReadFrame
from imgpipeline.settings import Settings
from imgpipeline.vision.configured import detect_workers

_MOST_READERS = 16
_HUNGRY_S = 0.05
"""How long a looker waits for a picture before it asks for one more reader."""

_Unread = tuple[KafkaRecord, "Future[RecordOutcome]", float]
"""A record, where its outcome goes, and when it was submitted, by `time.perf_counter`."""
_Unseen = tuple[ReadFrame, "Future[RecordOutcome]"]
"""A record whose image was read, and where its outcome goes."""


class RecordPool(Protocol):
    """Works on records, several at a time."""

    def submit(self, record: KafkaRecord) -> "Future[RecordOutcome]":
        """Begins to work on a record; returns at once."""

    def close(self) -> None:
        """Ends without waiting: reads of a store in trouble may take a minute. What was not begun is left."""


@dataclass(slots=True)
class ThreadRecordPool:
    """A `RecordPool` of threads in this process.

    Reading begins with one thread and gets one more each time that a looker finds nothing to look at, or still waits
    for it, while there is something to read: as many as the store's latency asks for, and no more, since every thread
    that wakes takes the core of one that computes.
    """

    work: FrameWork
    """What is done with a record."""
    most_readers: int
    """How many images may be read at a time."""
    lookers: int
    """How many pictures are decoded and detected at a time."""
    _to_read: "queue.SimpleQueue[_Unread | None]" = field(default_factory=queue.SimpleQueue)
    _to_look: "queue.SimpleQueue[_Unseen | None]" = field(default_factory=queue.SimpleQueue)
    _readers: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        try:
            threading.Thread(target=self._read_on, name="read-1").start()
            self._readers = 1
            for number in range(self.lookers):
                threading.Thread(target=self._look_on, name=f"look-{number}").start()
        except BaseException:  # threads that did start would keep the process alive
            self.close()
            raise

    @classmethod
    def of(cls, settings: Settings, work: FrameWork) -> "ThreadRecordPool":
        """Returns a pool of the size that the settings ask for."""
        return cls(work, min(_MOST_READERS, max(2, settings.prefetch_images // 2)), detect_workers(settings))

    def submit(self, record: KafkaRecord) -> "Future[RecordOutcome]":
        """Begins to work on a record; returns at once."""
        outcome: Future[RecordOutcome] = Future()
        self._to_read.put((record, outcome, time.perf_counter()))
        return outcome

    def close(self) -> None:
        """Ends without waiting: reads of a store in trouble may take a minute, and the process lives as long as they.

        What was not begun is left.
        """
        self._closed.set()
        self._to_read.put(None)
        self._to_look.put(None)

    def _add_reader(self) -> None:
        with self._lock:
            if self._readers == self.most_readers or self._closed.is_set():
                return
            try:
                threading.Thread(target=self._read_on, name=f"read-{self._readers + 1}").start()
            except RuntimeError:  # no more threads to be had: those that there are go on
                return
            self._readers += 1

    def _read_on(self) -> None:
        while (unread := self._to_read.get()) is not None and not self._closed.is_set():
            record, outcome, since_s = unread
            if not outcome.set_running_or_notify_cancel():
                continue
            try:
                read = self.work.read(record, since_s)
                if isinstance(read, ReadFrame):
                    self._to_look.put((read, outcome))
                else:
                    outcome.set_result(read)
            except BaseException as error:  # noqa: BLE001 - reaches the run through the future
                outcome.set_exception(error)
        self._to_read.put(None)  # for the next one

    def _look_on(self) -> None:
        while (unseen := self._next_to_look()) is not None and not self._closed.is_set():
            read, outcome = unseen
            try:
                outcome.set_result(self.work.look(read))
            except BaseException as error:  # noqa: BLE001 - reaches the run through the future
                outcome.set_exception(error)
        self._to_look.put(None)  # for the next one

    def _next_to_look(self) -> "_Unseen | None":
        with contextlib.suppress(queue.Empty):
            return self._to_look.get_nowait()
        while True:  # what is read may never come here (a missing image), or not soon (a store that hangs)
            if not self._to_read.empty():
                self._add_reader()
            with contextlib.suppress(queue.Empty):
                return self._to_look.get(timeout=_HUNGRY_S)
