"""The sensor's memory from tick to tick, and the choice of the partitions whose ledger ends it reads from the store.

The memory is stored as the sensor's cursor and becomes the input of `lanes.decide`. It is only a hint: clearing,
rewinding or corrupting it costs a few requests and delays a takeover. It cannot hide a frame for long, because every
tick reads the ends of some partitions in turn, and it cannot affect the ledger. The functions are pure; the sensor
makes the requests.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.records import LogRange
from imgpipeline.stream.lanes import PartitionView

_FORMAT_VERSION = 1
MOST_ASKED = 64
"""Maximum number of partitions with apparent lag whose ends are read in one tick; more than these take turns."""
OTHERS_ASKED = 4
"""Number of other partitions whose ends are read in one tick, in turn."""


@dataclass(frozen=True, slots=True)
class FoundEnd:
    """The end of a chain when it was last read."""

    offset: int
    hint: int | None
    """Start of the last segment, where the next search may start; None for an empty chain."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The memory of one chain."""

    end: FoundEnd
    moved_at: datetime
    behind_since: datetime | None
    """When the current, uninterrupted lag began, UTC; None without lag."""


@dataclass(frozen=True, slots=True)
class SensorMemory:
    """The sensor's memory."""

    seen: Mapping[ChainId, Seen] = field(default_factory=dict)
    turn: int = 0
    """Number of ticks so far; determines which partitions have their turn."""

    def to_cursor(self) -> str:
        """Returns the memory as text."""
        chains = [
            [c.topic, c.topic_id, c.partition, s.end.offset, s.end.hint, _seconds(s.moved_at), _seconds(s.behind_since)]
            for c, s in sorted(self.seen.items())
        ]
        return json.dumps({"version": _FORMAT_VERSION, "turn": self.turn, "chains": chains}, separators=(",", ":"))

    @classmethod
    def from_cursor(cls, text: str | None, *, now: datetime) -> "SensorMemory":
        """Returns the memory that `to_cursor` wrote; an empty memory for any other text.

        Args:
            now: The current time; later times count as now, so that no cursor can postpone a takeover forever.
        """
        try:
            data = json.loads(text or "{}")
            if data["version"] != _FORMAT_VERSION:
                return cls()
            return cls(dict(_read_chain(row, now) for row in data["chains"]), _whole(data["turn"]))
        except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
            return cls()

    def choose(self, logs: Sequence[LogRange]) -> list[LogRange]:
        """Returns the partitions whose ledger ends to read in this tick.

        Returns:
            Up to `MOST_ASKED` partitions that are unknown or seem to lag, and `OTHERS_ASKED` others; both take turns.
        """
        behind = [log for log in logs if log.chain not in self.seen or self.seen[log.chain].end.offset != log.log_end]
        chosen = {log.chain for log in behind}
        others = [log for log in logs if log.chain not in chosen]
        return _in_turn(behind, MOST_ASKED, self.turn) + _in_turn(others, OTHERS_ASKED, self.turn)

    def look(
        self,
        logs: Sequence[LogRange],
        ends: Mapping[ChainId, FoundEnd],
        *,
        now: datetime,
        topics: Sequence[str] = (),
    ) -> tuple[list[PartitionView], "SensorMemory"]:
        """Combines the ends read in this tick with the memory.

        Args:
            logs: All partitions of the topics, read before the ends.
            topics: The topics in the order of the settings; empty if there is only one.

        Returns:
            The view of every known partition, and the memory for the next tick.
        """
        seen: dict[ChainId, Seen] = {}
        views: list[PartitionView] = []
        for log in logs:
            before = self.seen.get(log.chain)
            end = ends.get(log.chain) or (before.end if before else None)
            if end is None:
                continue
            log_end = _settled_end(log, before, end)
            moved_at = before.moved_at if before and before.end.offset == end.offset else now
            behind_since = None if log_end == end.offset else (before and before.behind_since) or now
            seen[log.chain] = Seen(end, moved_at, behind_since)
            place = (topics.index(log.topic), len(topics)) if topics else (0, 1)
            views.append(PartitionView(log.partition, log_end, end.offset, moved_at, behind_since, *place))
        return views, SensorMemory(seen, self.turn + 1)


def _settled_end(log: LogRange, before: Seen | None, end: FoundEnd) -> int:
    """Returns the log's end to compare with the ledger's.

    The ledger is read after the log, so it may be ahead. It contradicts the log only if it was already ahead in the
    previous tick, because this log was read after that.
    """
    contradicts = before is not None and before.end.offset > log.log_end
    return log.log_end if contradicts else max(log.log_end, end.offset)


def _in_turn(logs: Sequence[LogRange], most: int, turn: int) -> list[LogRange]:
    if len(logs) <= most:
        return list(logs)
    first = turn * most % len(logs)
    return [*logs[first:], *logs[:first]][:most]


def _read_chain(row: Sequence[Any], now: datetime) -> tuple[ChainId, Seen]:
    topic, topic_id, partition, end, hint, moved_at, behind_since = row
    if not isinstance(topic, str) or not isinstance(topic_id, str):
        raise TypeError("a topic and its id are text")
    found = FoundEnd(_whole(end), None if hint is None else _whole(hint))
    since = None if behind_since is None else _time(behind_since, now)
    return ChainId(topic, topic_id, _whole(partition)), Seen(found, _time(moved_at, now), since)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is not an offset")
    return value


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


def _time(seconds: object, now: datetime) -> datetime:
    return min(datetime.fromtimestamp(_whole(seconds), UTC), now)
