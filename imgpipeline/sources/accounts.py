"""Counts the received and settled frames of one session, and returns the counts as notices for the ledger.

Every frame is counted twice, independently: when it is received, and when it is settled. A frame in between is in
flight. So `received - in flight = announced + gated + dropped + failed` is a check, not a definition.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from threading import Lock
from uuid import uuid4

from imgpipeline.contracts.notices import Account, Notice, NoticeKind
from imgpipeline.contracts.times import day_of
from imgpipeline.sources.protocol import Settled


@dataclass(frozen=True, slots=True)
class Totals:
    """The accounting of a session so far."""

    received: int
    in_flight: int
    announced: int
    """Announced frames, including gated frames that are announced."""
    gated: int
    """Left out on purpose and not announced."""
    dropped: dict[str, int]
    failed: int
    """Could not be decoded, masked or stored."""
    observed_s: float
    """Seconds during which the source was delivering frames."""


@dataclass(slots=True)
class _Tally:
    """One UTC day of frame time since the last account."""

    first: datetime
    last: datetime
    received_from: datetime
    received_to: datetime
    settled: Counter[Settled] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    observed_s: float = 0.0

    def widen(self, time: datetime, received: datetime) -> None:
        self.first, self.last = min(self.first, time), max(self.last, time)
        self.received_from, self.received_to = min(self.received_from, received), max(self.received_to, received)


class Accounts:
    """Counts the frames of one session; thread-safe."""

    def __init__(self, source: str, *, stall_s: float) -> None:
        """Opens a session.

        Args:
            stall_s: A gap between two frames counts as observed for at most this many seconds.
        """
        self.source = source
        self.session = uuid4().hex[:16]
        self._stall = timedelta(seconds=stall_s)
        self._lock = Lock()
        self._received = 0
        self._received_of_day: Counter[date] = Counter()
        self._accounted_of_day: Counter[date] = Counter()
        self._in_flight: dict[int, tuple[datetime, datetime]] = {}
        self._days: dict[date, _Tally] = {}
        self._settled: Counter[Settled] = Counter()
        self._dropped: Counter[str] = Counter()
        self._observed_s = 0.0
        self._last_frame: datetime | None = None

    def receive(self, time: datetime, received: datetime) -> int:
        """Counts a frame as received.

        Returns:
            A number for `settle`.
        """
        with self._lock:
            self._received += 1
            self._received_of_day[day_of(time)] += 1
            self._in_flight[self._received] = (time, received)
            self._observe(time, received)
            return self._received

    def interrupt(self) -> None:
        """Ends the observed time at the last frame: the source is offline until the next one."""
        with self._lock:
            self._last_frame = None

    def settle(self, number: int, how: Settled, reason: str = "") -> None:
        """Counts a received frame as settled.

        Raises:
            KeyError: The frame was settled before, which is a defect of the caller.
        """
        with self._lock:
            time, received = self._in_flight.pop(number)
            self._count(time, received, how, reason, 1)

    def lose(self, time: datetime, count: int, how: Settled, reason: str) -> None:
        """Counts frames that the source received but did not yield."""
        with self._lock:
            self._received += count
            self._received_of_day[day_of(time)] += count
            self._count(time, time, how, reason, count)

    def totals(self) -> Totals:
        """Returns the counts so far."""
        with self._lock:
            return Totals(
                received=self._received,
                in_flight=len(self._in_flight),
                announced=self._settled[Settled.ANNOUNCED],
                gated=self._settled[Settled.GATED],
                dropped=dict(self._dropped),
                failed=self._settled[Settled.FAILED],
                observed_s=round(self._observed_s, 6),
            )

    def take_notices(self) -> list[Notice]:
        """Returns the accounts of all days since the last call, and starts new ones.

        Frames in flight belong to a later account, so an account counts only frames announced before it.
        """
        with self._lock:
            days, self._days = self._days, {}
            in_flight = Counter(day_of(time) for time, _ in self._in_flight.values())
            return [self._account(tally, in_flight[day]) for day, tally in sorted(days.items())]

    def has_open_days(self) -> bool:
        """Returns whether anything was counted since the last account."""
        return bool(self._days)

    def idle_notice(self, start: datetime, end: datetime) -> Notice:
        """Returns an account of zero frames for a period, cut to the UTC day in which the period ends."""
        start = max(start, end.replace(hour=0, minute=0, second=0, microsecond=0))
        account = Account(received=0, announced=0, received_from=start, received_to=end)
        return Notice(0, NoticeKind.ACCOUNT, self.source, self.session, start, end, account=account)

    def notice(self, kind: NoticeKind, at: datetime, reason: str | None = None) -> Notice:
        """Returns a notice that is not an account."""
        return Notice(0, kind, self.source, self.session, at, at, reason=reason)

    def _count(self, time: datetime, received: datetime, how: Settled, reason: str, count: int) -> None:
        tally = self._tally(time, received)
        tally.settled[how] += count
        self._settled[how] += count
        if how is Settled.DROPPED:
            tally.dropped[reason or "unknown"] += count
            self._dropped[reason or "unknown"] += count

    def _tally(self, time: datetime, received: datetime) -> _Tally:
        tally = self._days.get(day_of(time))
        if tally is None:
            tally = self._days[day_of(time)] = _Tally(time, time, received, received)
        tally.widen(time, received)
        return tally

    def _observe(self, time: datetime, received: datetime) -> None:
        """Adds the gap since the previous frame, at most `stall_s`, to its day; split at midnight."""
        before, self._last_frame = self._last_frame, time
        if before is None or time <= before:
            return
        end = min(time, before + self._stall)
        midnight = before.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        parts = [(before, min(end, midnight)), (midnight, end)]
        for start, stop in parts:
            if start < stop:
                seconds = (stop - start).total_seconds()
                tally = self._tally(start, received)
                tally.last = max(tally.last, stop)
                tally.observed_s += seconds
                self._observed_s += seconds

    def _account(self, tally: _Tally, in_flight: int) -> Notice:
        settled, day = tally.settled, day_of(tally.first)
        received = self._received_of_day[day] - in_flight - self._accounted_of_day[day]
        self._accounted_of_day[day] += received
        account = Account(
            received=received,
            announced=settled[Settled.ANNOUNCED],
            gated=settled[Settled.GATED],
            dropped=dict(sorted(tally.dropped.items())),
            failed=settled[Settled.FAILED],
            observed_s=round(tally.observed_s, 6),
            received_from=tally.received_from,
            received_to=tally.received_to,
        )
        return Notice(0, NoticeKind.ACCOUNT, self.source, self.session, tally.first, tally.last, account=account)
