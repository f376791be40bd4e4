"""Measures where the time of a detection run goes, per stage. It costs microseconds per frame, so it always runs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    """What a frame passes through, in this order."""

    FETCH = "fetch"
    """Records are taken from Kafka."""
    GET = "get"
    """The announced image is read from the object store."""
    DECODE = "decode"
    """Bytes become pixels; brightness and sharpness are measured."""
    INFER = "infer"
    """The detector looks at the pixels."""
    PUT = "put"
    """A segment is put: day index, topic id, segment."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did during a run."""

    stage: Stage
    """Which stage."""
    items: int
    """Records, images or segments that passed it."""
    busy_s: float
    """Seconds of work, summed over all threads."""
    at_work: float
    """How many were processed at a time, on average; if this is close to its number of threads, the stage limits the
    run."""
    queue_length: float
    """How many waited for it, on average (Little's law: total waiting time divided by the run's time)."""

    @property
    def ms_each(self) -> float:
        """Milliseconds of work per item."""
        return 1000 * self.busy_s / self.items if self.items else 0.0


@dataclass(slots=True)
class _Sum:
    items: int = 0
    busy_s: float = 0.0
    waited_s: float = 0.0


@dataclass(slots=True)
class StageClock:
    """Adds up the stages' times. Used by all threads of a run."""

    _sums: dict[Stage, _Sum] = field(default_factory=lambda: {stage: _Sum() for stage in Stage})
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _began_s: float | None = None
    _ended_s: float = 0.0

    @contextmanager
    def at(self, stage: Stage, since_s: float | None = None) -> Iterator[None]:
        """Counts the body as work of a stage.

        Args:
            stage: Which.
            since_s: When the item was ready for it, by `time.perf_counter`; None if it did not wait.
        """
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, began_s, waited_s=began_s - (began_s if since_s is None else since_s))

    def add(self, stage: Stage, began_s: float, *, items: int = 1, waited_s: float = 0.0) -> None:
        """Counts work that began at `began_s`, by `time.perf_counter`, and ends now."""
        now_s = time.perf_counter()
        with self._lock:
            total = self._sums[stage]
            total.items += items
            total.busy_s += now_s - began_s
            total.waited_s += waited_s
            self._began_s = min(self._began_s or began_s, began_s)
            self._ended_s = now_s

    def report(self) -> tuple[StageReport, ...]:
        """Returns one report per stage, over the time from the first work to the last."""
        with self._lock:
            seconds = max(self._ended_s - (self._began_s or self._ended_s), 1e-9)
            return tuple(
                StageReport(stage, s.items, s.busy_s, s.busy_s / seconds, s.waited_s / seconds)
                for stage, s in self._sums.items()
            )
