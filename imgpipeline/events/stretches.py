"""How long something holds from frame to frame, in spite of short interruptions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Moment(Generic[Item]):
    """One frame, as a condition sees it."""

    at: datetime
    """Time of the frame."""
    item: Item
    """The frame, or what is known of it."""
    holds: bool
    """Whether the condition holds in it."""


@dataclass(frozen=True, slots=True)
class Stretch(Generic[Item]):
    """A time during which a condition holds."""

    first: Moment[Item]
    """The first frame in which it holds."""
    met: Moment[Item]
    """The first frame in which it has held for long enough."""
    last: Moment[Item]
    """The last frame in which it holds."""


class StretchFinder(Generic[Item]):
    """Finds stretches moment by moment.

    More moments can prolong the current stretch and add others; they never change where a stretch begins or is met.
    """

    def __init__(self, *, least: timedelta, longest_gap: timedelta, bridge: timedelta) -> None:
        """Begins before the first moment.

        Args:
            least: For how long the condition has to hold, from the first to the last frame.
            longest_gap: A longer pause between two moments ends a stretch.
            bridge: An interruption up to this long does not end a stretch.
        """
        self._least, self._longest_gap, self._bridge = least, longest_gap, bridge
        self._first: Moment[Item] | None = None
        self._met: Moment[Item] | None = None
        self._last: Moment[Item] | None = None
        self._before: Moment[Item] | None = None

    @property
    def current(self) -> Stretch[Item] | None:
        """The stretch that has not ended, if it has reached the least duration."""
        return Stretch(self._first, self._met, self._last) if self._first and self._met and self._last else None

    def take(self, moment: Moment[Item]) -> Stretch[Item] | None:
        """Takes the next moment in time, and returns the stretch that has ended before it."""
        ended: Stretch[Item] | None = None
        if self._before and self._last:
            has_gap = moment.at - self._before.at > self._longest_gap
            both_hold = moment.holds and self._before.holds
            if has_gap or (not both_hold and moment.at - self._last.at > self._bridge):
                ended = self.current
                self._first = self._met = self._last = None
        self._before = moment
        if moment.holds:
            self._first, self._last = self._first or moment, moment
            self._met = self._met or (moment if moment.at - self._first.at >= self._least else None)
        return ended


def find_stretches(moments: Iterable[Moment[Item]], finder: StretchFinder[Item]) -> Iterator[Stretch[Item]]:
    """Yields the stretches that reach the least duration.

    Args:
        moments: In the order of their times.
        finder: Says how long, and with which interruptions; a new one.
    """
    for moment in moments:
        ended = finder.take(moment)
        if ended:
            yield ended
    if finder.current:
        yield finder.current
