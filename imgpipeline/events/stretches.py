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


def find_stretches(
    moments: Iterable[Moment[Item]], *, least: timedelta, longest_gap: timedelta, bridge: timedelta
) -> Iterator[Stretch[Item]]:
    """Yields the stretches that reach a least duration.

    More moments can prolong the last stretch and add others; they never change where a stretch begins or is met.

    Args:
        moments: In the order of their times.
        least: For how long the condition has to hold, from the first to the last frame.
        longest_gap: A longer pause between two moments ends a stretch.
        bridge: An interruption up to this long does not end a stretch.
    """
    first: Moment[Item] | None = None
    met: Moment[Item] | None = None
    last: Moment[Item] | None = None
    before: Moment[Item] | None = None
    for moment in moments:
        if before and last:
            has_gap = moment.at - before.at > longest_gap
            is_interrupted = not (moment.holds and before.holds) and moment.at - last.at > bridge
            if has_gap or is_interrupted:
                if first and met:
                    yield Stretch(first, met, last)
                first = met = last = None
        before = moment
        if moment.holds:
            first, last = first or moment, moment
            met = met or (moment if moment.at - first.at >= least else None)
    if first and met and last:
        yield Stretch(first, met, last)
