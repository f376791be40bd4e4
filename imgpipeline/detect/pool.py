"""The threads that work on records: many that wait for the object store, and as many as there are cores that compute.

Owns which thread does what. It promises that a record's outcome, or the error that it ended in, arrives in its future,
until the pool is closed. The order of outcomes belongs to `workers`.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from imgpipeline.contracts.messages import KafkaRecord
from imgpipeline.contracts.outcomes import DeadLetter, Frame
from imgpipeline.detect.work import FrameWork, ReadFrame
from imgpipeline.settings import Settings
from imgpipeline.vision.configured import detect_workers

_MOST_READERS = 16


class RecordPool(Protocol):
    """Works on records, several at a time."""

    def submit(self, record: KafkaRecord) -> "Future[Frame | DeadLetter]":
        """Begins to work on a record; returns at once."""

    def close(self) -> None:
        """Ends without waiting: reads of a store in trouble may take a minute. What was not begun is left."""


@dataclass(slots=True)
class ThreadRecordPool:
    """A `RecordPool` of threads in this process."""

    work: FrameWork
    """What is done with a record."""
    readers: int
    """How many images are read at a time."""
    lookers: int
    """How many pictures are decoded and detected at a time."""
    _readers: ThreadPoolExecutor = field(init=False)
    _lookers: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._readers = ThreadPoolExecutor(self.readers, "read")
        self._lookers = ThreadPoolExecutor(self.lookers, "look")

    @classmethod
    def of(cls, settings: Settings, work: FrameWork) -> "ThreadRecordPool":
        """Returns a pool of the size that the settings ask for."""
        readers = min(_MOST_READERS, max(2, settings.prefetch_images // 2))
        return cls(work, readers, detect_workers(settings))

    def submit(self, record: KafkaRecord) -> "Future[Frame | DeadLetter]":
        """Begins to work on a record; returns at once."""
        outcome: Future[Frame | DeadLetter] = Future()
        self._readers.submit(self._read, record, outcome, time.perf_counter())
        return outcome

    def _read(self, record: KafkaRecord, outcome: "Future[Frame | DeadLetter]", since_s: float) -> None:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            read = self.work.read(record, since_s)
            if isinstance(read, ReadFrame):
                self._lookers.submit(self._look, read, outcome)
            else:
                outcome.set_result(read)
        except BaseException as error:  # noqa: BLE001 - reaches the run through the future
            outcome.set_exception(error)

    def _look(self, read: ReadFrame, outcome: "Future[Frame | DeadLetter]") -> None:
        try:
            outcome.set_result(self.work.look(read))
        except BaseException as error:  # noqa: BLE001 - reaches the run through the future
            outcome.set_exception(error)

    def close(self) -> None:
        """Ends without waiting: reads of a store in trouble may take a minute. What was not begun is left."""
        for pool in (self._readers, self._lookers):
            pool.shutdown(wait=False, cancel_futures=True)
