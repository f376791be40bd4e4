"""What a detection run reports: the days that it touched, counts, latency, and the time per stage.

Measuring the stages costs microseconds per frame, so it is always on.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from statistics import quantiles

from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Gap, Outcome
from imgpipeline.ledger.segment import SegmentHeader

_LATENCIES = 10_000
"""Number of recent latencies that the percentiles are computed from."""
_TOLD_EVERY = timedelta(minutes=1)


class Stage(StrEnum):
    """The stages that a frame passes through, in order."""

    FETCH = "fetch"
    GET = "get"
    DECODE = "decode"
    """Bytes become pixels; brightness and sharpness are measured."""
    INFER = "infer"
    PUT = "put"
    """A segment is put, with its entries of the day index."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did during a run."""

    stage: Stage
    items: int
    busy_s: float
    """Seconds of work, summed over all threads."""
    at_work: float
    """Average number of items processed at a time. If this is close to the number of threads, the stage limits the
    run."""
    queue_length: float
    """Average number of waiting items (Little's law: total waiting time divided by the run's time)."""

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
    """Adds up the time of each stage. Used by all threads of a run."""

    _sums: dict[Stage, _Sum] = field(default_factory=lambda: {stage: _Sum() for stage in Stage})
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _began_s: float | None = None
    _ended_s: float = 0.0

    @contextmanager
    def at(self, stage: Stage, since_s: float | None = None) -> Iterator[None]:
        """Counts the body as work of a stage.

        Args:
            since_s: When the item was ready for the stage, by `time.perf_counter`; None if it did not wait.
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
        """Returns one report per stage, for the time from the first work to the last."""
        with self._lock:
            seconds = max(self._ended_s - (self._began_s or self._ended_s), 1e-9)
            return tuple(
                StageReport(stage, s.items, s.busy_s, s.busy_s / seconds, s.waited_s / seconds)
                for stage, s in self._sums.items()
            )


@dataclass(frozen=True, slots=True)
class LaneReport:
    """What a run has done since it started."""

    days: tuple[date, ...]
    """Days with new segments. A day is reported at most once a minute, and again when the run ends."""
    accounted: tuple[date, ...]
    """Those of them with new accounts of sources."""
    frames: int
    dead_letters: int
    segments: int
    lag: int
    """Offsets without an outcome when Kafka was last asked, in the partitions that the run still follows."""
    frames_per_s: float
    """Records per second since the first record."""
    latency_p50_s: float | None
    """Median seconds from the time of the Kafka record to its segment; None before the first segment."""
    latency_p95_s: float | None
    """95th percentile of these seconds."""
    notices: int = 0
    stages: tuple[StageReport, ...] = ()
    ended_by: str | None = None
    """Why the run ended: `linger`, `max_run`, `limit`, `stopped`, `superseded`, or `partitions` (the topic has new
    partitions, which the next run includes). A careful run also ends by `crash` (found a record that kills its process)
    or `careful` (found none among enough records). None while the run continues."""


class LaneTally:
    """Counts what a run commits. Used by one thread at a time."""

    def __init__(self) -> None:
        """Starts with zero counts."""
        self._new: set[date] = set()
        self._accounted: set[date] = set()
        self._told: dict[date, datetime] = {}
        self._latencies_s: deque[float] = deque(maxlen=_LATENCIES)
        self._records = 0
        self._frames = 0
        self._dead_letters = 0
        self._notices = 0
        self._segments = 0
        self._began: datetime | None = None
        self._last: datetime | None = None

    def news(self, at: datetime) -> list[date]:
        """Returns the days with new segments that were not reported within the last minute."""
        return sorted(day for day in self._new if day not in self._told or at - self._told[day] >= _TOLD_EVERY)

    def begin(self, at: datetime) -> None:
        """Records when the first record arrived."""
        self._began = self._began or at

    def add(self, header: SegmentHeader, outcomes: list[Outcome], record_times: list[datetime], at: datetime) -> None:
        """Adds a segment that was just put."""
        self._new |= set(header.days)
        self._segments += 1
        self._records += sum(1 for outcome in outcomes if not isinstance(outcome, Gap))
        self._last = at
        self._latencies_s.extend((at - time).total_seconds() for time in record_times)
        for outcome in outcomes:
            self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        if isinstance(outcome, Frame):
            self._frames += 1
        elif isinstance(outcome, DeadLetter):
            self._dead_letters += 1
        elif isinstance(outcome, Notice):
            self._notices += 1
            if outcome.account is not None:
                self._accounted.add(outcome.day)

    def report(
        self, at: datetime, lag: int, stages: tuple[StageReport, ...] = (), ended_by: str | None = None
    ) -> LaneReport:
        """Returns the report; the next one has only the days that are new after this one."""
        days = sorted(self._new) if ended_by else self.news(at)
        accounted = [day for day in days if day in self._accounted]
        self._told |= dict.fromkeys(days, at)
        self._new.difference_update(days)
        self._accounted.difference_update(days)
        p50, p95 = _percentiles(list(self._latencies_s))
        seconds = (self._last - self._began).total_seconds() if self._last and self._began else 0.0
        return LaneReport(
            days=tuple(days),
            accounted=tuple(accounted),
            frames=self._frames,
            dead_letters=self._dead_letters,
            notices=self._notices,
            segments=self._segments,
            lag=lag,
            frames_per_s=self._records / seconds if seconds > 0 else 0.0,
            latency_p50_s=p50,
            latency_p95_s=p95,
            stages=stages,
            ended_by=ended_by,
        )


def _percentiles(values: list[float]) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    if len(values) == 1:
        return values[0], values[0]
    cuts = quantiles(values, n=20, method="inclusive")
    return cuts[9], cuts[18]
