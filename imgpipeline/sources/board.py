"""The state of running sources, one watch per source, for live tables, metrics and health checks."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class RunningSource:
    """One source at one moment."""

    source: str
    kind: SourceKind
    state: SourceState
    received: int
    settled: dict[Settled, int]
    dropped: dict[str, int]
    fps_in: float
    """Frames received per second, over the last ten seconds."""
    fps_out: float
    """Frames announced per second, over the last ten seconds."""
    queue: int
    """Frames that wait to be stored."""
    blocked: str | None
    """What publishing waits for, such as `the store since 2026-01-09T12:00:00Z`; None: nothing."""
    last_frame: datetime | None
    """When the last frame arrived, by this machine's clock, UTC."""
    clock_offset_s: float | None
    """How far the source's clock is ahead of this machine's; None: unknown."""
    reconnects: int
    """How often it went offline or was restarted."""
    latency_counts: tuple[int, ...]
    """Announced frames by the time from receipt to announcement: one count per bound, and one above the last."""
    latency_sum_s: float
    error: str | None
    """The last error; never contains a secret."""
    ignored: int
    """Files in a watched folder that are not announced, because of their names or because they are empty."""


class SourceWatch:
    """Records what happens to one source; thread-safe."""

    def __init__(self, source: str, kind: SourceKind, clock: Clock = utc_now) -> None:
        """Starts in the state `STARTING`."""
        self.source = source
        self._kind = kind
        self._clock = clock
        self._lock = Lock()
        self._state = SourceState.STARTING
        self._error: str | None = None
        self._received = 0
        self._settled: Counter[Settled] = Counter()
        self._dropped: Counter[str] = Counter()
        self._arrivals: deque[float] = deque()
        self._announced: deque[float] = deque()
        self._last_frame: datetime | None = None
        self._clock_offset_s: float | None = None
        self._reconnects = 0
        self._latencies = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._latency_sum_s = 0.0
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
                self._received += 1
                self._state, self._last_frame = SourceState.ONLINE, captured.received or now
                _remember(self._arrivals, now.timestamp())
                offset = captured.attributes.get("clock_offset_s")
                self._clock_offset_s = offset if isinstance(offset, int | float) else None
            elif isinstance(captured, Lost):
                self._received += captured.count
                self._count(captured.kind, captured.reason, captured.count)
            elif isinstance(captured, StatusChange):
                self._state = SourceState.ONLINE if captured.online else SourceState.OFFLINE
                self._reconnects += not captured.online
                self._error = None if captured.online else captured.reason

    def settled(self, how: Settled, reason: str, latency_s: float) -> None:
        """Counts a captured frame as settled."""
        with self._lock:
            self._count(how, reason, 1)
            if how is Settled.ANNOUNCED:
                _remember(self._announced, self._clock().timestamp())
                self._latencies[sum(latency_s > bound for bound in LATENCY_BOUNDS_S)] += 1
                self._latency_sum_s += latency_s

    def change(self, state: SourceState, error: str | None = None) -> None:
        """Records a new state, and the error that caused it."""
        with self._lock:
            self._state, self._error = state, error
            self._reconnects += state is SourceState.RESTARTING

    def status(self) -> RunningSource:
        """Returns the current state and counts."""
        with self._lock:
            now_s = self._clock().timestamp()
            return RunningSource(
                source=self.source,
                kind=self._kind,
                state=self._state,
                received=self._received,
                settled=dict(self._settled),
                dropped=dict(self._dropped),
                fps_in=_rate(self._arrivals, now_s),
                fps_out=_rate(self._announced, now_s),
                queue=self._queue(),
                blocked=self._blocked(),
                last_frame=self._last_frame,
                clock_offset_s=self._clock_offset_s,
                reconnects=self._reconnects,
                latency_counts=tuple(self._latencies),
                latency_sum_s=self._latency_sum_s,
                error=self._error,
                ignored=self.ignored(),
            )

    def _count(self, how: Settled, reason: str, count: int) -> None:
        self._settled[how] += count
        if how is Settled.DROPPED:
            self._dropped[reason or "unknown"] += count


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
