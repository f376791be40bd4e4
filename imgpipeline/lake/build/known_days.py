"""Which days have segments that a follower has not seen yet, without a request per day.

A version of a table is *complete* when no segment after its ends touches its day, and stays so until such a segment
comes. So days that are over cost nothing. A follower of the ledger notes each segment. If all segments of a day were
noted, the newest start in each chain is known and shows exactly what the tables lack.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.ledger.follow import OffsetRange

_WHOLE_DAYS = 8
"""Of this many complete days the newest starts are kept; of older ones only that they are complete."""


@dataclass(slots=True)
class KnownDay:
    """What is known of one day, up to where its owner has followed the ledger."""

    complete: dict[str, str] = field(default_factory=dict)
    """By name, the version that is complete."""
    newest: dict[ChainId, int] = field(default_factory=dict)
    """For chains in which a segment touches the day, the start of the last one."""
    is_whole: bool = True
    """Whether `newest` names every chain with a segment of the day."""


@dataclass(slots=True)
class KnownDays:
    """What is known of all days. Not safe to change from several threads."""

    days: dict[date, KnownDay] = field(default_factory=dict)
    """By day; a day that is not named has no segment."""

    def begin(self, days: Iterable[date]) -> None:
        """Notes days of which nothing else is known."""
        for day in days:
            self.days.setdefault(day, KnownDay(is_whole=False))

    def note(self, chain: ChainId, start: int, days: Iterable[date]) -> None:
        """Notes a segment."""
        for day in days:
            known = self.days.setdefault(day, KnownDay())
            known.complete.clear()
            known.newest[chain] = max(start, known.newest.get(chain, 0))

    def doubt(self, day: date) -> None:
        """Notes that a day may have segments that were not noted."""
        self.days[day] = KnownDay(is_whole=False)

    def forget(self, offsets: OffsetRange) -> None:
        """Notes that segments that start in a range are no longer what they were."""
        for day, known in self.days.items():
            if any(offsets.covers(chain, start) for chain, start in known.newest.items()):
                self.days[day] = KnownDay(is_whole=False)

    def is_complete(self, day: date, name: str, version: str) -> bool:
        """Tells whether a version is known to have all of its day."""
        known = self.days.get(day)
        return known is not None and bool(version) and known.complete.get(name) == version

    def note_complete(self, day: date, name: str, version: str) -> None:
        """Notes that a version has all of its day."""
        if version and day in self.days:
            self.days[day].complete[name] = version

    def has_news(self, day: date, covered: Mapping[ChainId, int]) -> bool | None:
        """Tells whether a segment of a day lies after some ends; None if that is not known."""
        known = self.days.get(day)
        if known is None:
            return False
        if any(start >= covered.get(chain, 0) for chain, start in known.newest.items()):
            return True
        return False if known.is_whole else None

    def to_json(self) -> list[Any]:
        """Returns it as JSON values, without the starts of days that have long been complete."""
        complete = sorted(day for day, known in self.days.items() if known.complete and known.newest)
        short = set(complete[:-_WHOLE_DAYS])
        return [_day_json(day, known, is_short=day in short) for day, known in sorted(self.days.items())]

    @classmethod
    def from_json(cls, data: Iterable[Any]) -> "KnownDays":
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError if it is something else."""
        return cls({date.fromisoformat(day): _known_day(known) for day, known in data})


def _day_json(day: date, known: KnownDay, *, is_short: bool) -> list[Any]:
    newest = [
        [chain.topic, chain.topic_id, chain.partition, start]
        for chain, start in sorted(known.newest.items())
        if not is_short
    ]
    # The key of complete versions is older than the word; catalogues of earlier releases stay readable.
    return [day.isoformat(), {"settled": known.complete, "newest": newest, "whole": known.is_whole and not is_short}]


def _known_day(data: Mapping[str, Any]) -> KnownDay:
    newest = {
        ChainId(str(topic), str(topic_id), int(partition)): int(start)
        for topic, topic_id, partition, start in data["newest"]
    }
    complete = {str(name): str(version) for name, version in data["settled"].items()}
    return KnownDay(complete, newest, bool(data["whole"]))
