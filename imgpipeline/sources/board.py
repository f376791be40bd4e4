"""The state of running sources, one watch per source, for live tables, metrics and health checks."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from threading import Lock

from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.sources.protocol import Captured, CapturedFrame, Lost, Settled, SourceKind, StatusChange

LATENCY_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RATE_S = 10.0


class SourceState(StrEnum):
    """What a source is doing."""

    STARTING = "starting"
    ONLINE = "online"
    """It delivers frames, or waits for them: a folder, an MQTT broker, an HTTP port."""
    OFFLINE = "offline"
    RESTARTING = "restarting"
    TAKEN_OVER = "taken over"
    ENDED = "ended"


@dataclass(slots=True)
class RunningSource:
    """One source at one moment; `SourceWatch` keeps the counts since the process started."""

    source: str
    kind: SourceKind
    state: SourceState = SourceState.STARTING
    received: int = 0
    settled: Counter[Settled] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    """Dropped frames by reason."""
    fps_in: float = 0.0
    """Frames received per second, over the last ten seconds."""
    fps_out: float = 0.0
    """Frames announced per second, over the last ten seconds."""
    queue: int = 0
    """Frames that wait to be stored."""
    blocked: str | None = None
    """What publishing waits for, such as `the store since 2026-01-09T12:00:00Z`; None: nothing."""
    last_frame: datetime | None = None
    """When the last frame arrived, by this machine's clock, UTC."""
    clock_offset_s: float | None = None
    """How far the source's clock is ahead of this machine's; None: unknown."""
    reconnects: int = 0
    """How often it went offline or was restarted."""
    latency_counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    """Announced frames by the time from receipt to announcement: one count per bound, and one above the last."""
    latency_sum_s: float = 0.0
    error: str | None = None
    """The last error; never contains a secret."""
    ignored: int = 0
    """Files in a watched folder that are not announced, because of their names or because they are empty."""


class SourceWatch:
    """Records what happens to one source; thread-safe."""

    def __init__(self, source: str, kind: SourceKind, clock: Clock = utc_now) -> None:
        """Starts in the state `STARTING`."""
        self.source = source
        self._clock = clock
        self._lock = Lock()
        self._now = RunningSource(source, kind)
        self._arrivals: deque[float] = deque()
        self._announced: deque[float] = deque()
        self.ignored: Callable[[], int] = lambda: 0
        self._queue: Callable[[], int] = lambda: 0
        self._blocked: Callable[[], str | None] = lambda: None

    def follow_queue(self, queue: Callable[[], int], blocked: Callable[[], str | None]) -> None:
        """Sets the functions that return the length of the queue and what publishing waits for."""
        with self._lock:
            self._queue, self._blocked = queue, blocked

    def captured(self, captured: Captured) -> None:
        """Counts what the source yielded."""
        now = self._clock()
        with self._lock:
            if isinstance(captured, CapturedFrame):
                self._now.received += 1
                self._now.state, self._now.last_frame = SourceState.ONLINE, captured.received or now
                _remember(self._arrivals, now.timestamp())
                offset = captured.attributes.get("clock_offset_s")
                self._now.clock_offset_s = offset if isinstance(offset, int | float) else None
            elif isinstance(captured, Lost):
                self._now.received += captured.count
                self._count(captured.kind, captured.reason, captured.count)
            elif isinstance(captured, StatusChange):
                self._now.state = SourceState.ONLINE if captured.online else SourceState.OFFLINE
                self._now.reconnects += not captured.online
                self._now.error = None if captured.online else captured.reason

    def settled(self, how: Settled, reason: str, latency_s: float) -> None:
        """Counts a captured frame as settled."""
        with self._lock:
            self._count(how, reason, 1)
            if how is Settled.ANNOUNCED:
                _remember(self._announced, self._clock().timestamp())
                self._now.latency_counts[sum(latency_s > bound for bound in LATENCY_BOUNDS_S)] += 1
                self._now.latency_sum_s += latency_s

    def change(self, state: SourceState, error: str | None = None) -> None:
        """Records a new state, and the error that caused it."""
        with self._lock:
            self._now.state, self._now.error = state, error
            self._now.reconnects += state is SourceState.RESTARTING

    def status(self) -> RunningSource:
        """Returns the current state and counts."""
        with self._lock:
            now_s = self._clock().timestamp()
            return replace(
                self._now,
                settled=self._now.settled.copy(),
                dropped=self._now.dropped.copy(),
                latency_counts=self._now.latency_counts.copy(),
                fps_in=_rate(self._arrivals, now_s),
                fps_out=_rate(self._announced, now_s),
                queue=self._queue(),
                blocked=self._blocked(),
                ignored=self.ignored(),
            )

    def _count(self, how: Settled, reason: str, count: int) -> None:
        self._now.settled[how] += count
        if how is Settled.DROPPED:
            self._now.dropped[reason or "unknown"] += count


class Board:
    """The watches of all running sources; thread-safe."""

    def __init__(self, clock: Clock = utc_now) -> None:
        """Starts empty."""
        self._clock = clock
        self._lock = Lock()
        self._watches: dict[str, SourceWatch] = {}

    def watch(self, source: str, kind: SourceKind) -> SourceWatch:
        """Returns the watch of a source: the same one each time, so its counts continue after a restart."""
        with self._lock:
            return self._watches.setdefault(source, SourceWatch(source, kind, self._clock))

    def remove(self, source: str) -> None:
        """Forgets a source that is no longer configured."""
        with self._lock:
            self._watches.pop(source, None)

    def statuses(self) -> list[RunningSource]:
        """Returns the current state of all sources, sorted by name."""
        with self._lock:
            watches = [watch for _, watch in sorted(self._watches.items())]
        return [watch.status() for watch in watches]


def _remember(times: deque[float], now_s: float) -> None:
    times.append(now_s)
    while times[0] < now_s - _RATE_S:
        times.popleft()


def _rate(times: deque[float], now_s: float) -> float:
    return round(sum(time > now_s - _RATE_S for time in times) / _RATE_S, 1)
