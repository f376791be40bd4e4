"""Hours of the day in a time zone, such as `22:00-06:00`."""

from dataclasses import dataclass
from datetime import datetime, tzinfo
from datetime import time as time_of_day

HOURS_PATTERN = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
"""What `Hours.parse` reads, as a regular expression for configuration files."""


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of the day in a time zone; it may span midnight."""

    start: time_of_day
    """First moment that is inside."""
    end: time_of_day
    """First moment that is outside again."""
    zone: tzinfo
    """Time zone of both."""

    def contain(self, time: datetime) -> bool:
        """Returns whether an aware time lies in these hours."""
        local = time.astimezone(self.zone).time()
        if self.start <= self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end

    @classmethod
    def parse(cls, text: str, zone: tzinfo) -> "Hours":
        """Reads hours such as `06:00-20:30`.

        Raises:
            ValueError: That is not two times.
        """
        start, dash, end = text.partition("-")
        if not dash:
            raise ValueError(f"got {text!r}, expected hours such as 06:00-20:30")
        return cls(time_of_day.fromisoformat(start.strip()), time_of_day.fromisoformat(end.strip()), zone)
