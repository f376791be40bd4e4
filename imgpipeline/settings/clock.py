"""The clock, which is passed to whatever needs the time."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Tells the time as aware UTC."""


def utc_now() -> datetime:
    """Returns the time of the machine's clock; the one place where it is read."""
    return datetime.now(UTC)
