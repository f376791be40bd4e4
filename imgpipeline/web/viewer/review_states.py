"""What a visitor has reviewed, for pages that also work while the store does not answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from imgpipeline.errors import TransientError
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.access import Visitor
from imgpipeline.web.viewer.answers import day_counts, utc_days_of
from imgpipeline.web.viewer.reviewed import ReviewedDay, count_reviewed
from imgpipeline.web.viewer.site import ViewedSite


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """One day of the calendar."""

    day: date
    """The day, in the session's time zone."""
    frames: int
    """Its frames."""
    reviewed: int | None
    """Those that the visitor has reviewed; None if the store does not answer."""

    @property
    def state(self) -> str:
        """One of `reviewed`, `partly`, `open` (nothing reviewed), `unknown`."""
        if self.reviewed is None:
            return "unknown"
        return "reviewed" if self.reviewed >= self.frames else "partly" if self.reviewed else "open"


def reviewed_of(site: ViewedSite, visitor: Visitor, days: Sequence[date]) -> dict[date, ReviewedDay] | None:
    """Returns what a visitor has reviewed of some days; None if the store does not answer: pages do without it."""
    if isinstance(site.lake.state.problem, TransientError):
        return None
    try:
        if len(days) == 1:
            return {days[0]: site.reviews.of_day(visitor.name, days[0])}
        return site.reviews.of_days(visitor.name, days)
    except TransientError:
        return None


def calendar_days(
    site: ViewedSite, lake: LakeSession, visitor: Visitor, span: Span, *, is_needed: bool = False
) -> list[CalendarDay]:
    """Returns the days of a span that have frames, the latest first, with what a visitor has reviewed of them.

    Args:
        site: Names the store.
        lake: The session.
        visitor: The person.
        span: Days of the session's time zone.
        is_needed: Whether to raise, instead of leaving it unknown, if the store does not answer.

    Raises:
        TransientError: The store does not answer, and `is_needed`.
    """
    rows = site.lake.remembered(lake, "days", lambda: day_counts(lake))
    frames = {row["day"]: row["frames"] for row in rows if row["frames"] and row["day"] in span}
    days = utc_days_of(lake, sorted(frames)) if frames else []
    if is_needed:
        reviewed: Iterable[ReviewedDay] | None = site.reviews.of_days(visitor.name, days).values()
    else:
        found = reviewed_of(site, visitor, days)
        reviewed = None if found is None else found.values()
    counts = None if reviewed is None else count_reviewed(lake, list(reviewed))
    return [CalendarDay(day, count, None if counts is None else counts.get(day, 0)) for day, count in frames.items()]
