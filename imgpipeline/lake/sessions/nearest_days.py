"""Which days to suggest when a user asks for a day that has nothing."""

from collections.abc import Collection
from datetime import date

_MOST = 8


def nearest_day(days: Collection[date], wanted: date) -> date:
    """Returns the day closest to the wanted one, the earlier of two; there must be at least one."""
    return min(days, key=lambda day: (abs(day - wanted), day))


def name_nearest_days(days: Collection[date], wanted: date) -> str:
    """Returns the closest days in order, such as `2026-01-09, 2026-01-11 (the nearest of 90)`; `none` without any."""
    nearest = sorted(sorted(days, key=lambda day: (abs(day - wanted), day))[:_MOST])
    more = f" (the nearest of {len(days)})" if len(days) > len(nearest) else ""
    return (", ".join(day.isoformat() for day in nearest) or "none") + more
