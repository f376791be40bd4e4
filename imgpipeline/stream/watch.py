"""What the sensor remembers from tick to tick, and which partitions it asks the store for.

Owns the sensor's cursor and how it turns into the view that `lanes.decide` takes. The cursor is only a hint: cleared,
rewound or garbage, it costs a few requests and delays a takeover, and can neither hide a frame for long (every tick
asks for some partitions in turn, whatever the cursor says) nor touch the ledger. Pure: asking is done by others.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.log import LogRange
from imgpipeline.stream.lanes import PartitionView

_FORMAT_VERSION = 1
MOST_ASKED = 64
"""Partitions that look behind and are asked for in one tick; with more, they take turns."""
OTHERS_ASKED = 4
"""Further partitions that are asked for in one tick, in turn."""


@dataclass(frozen=True, slots=True)
class FoundEnd:
    """Where a chain ended when the store was asked."""

    offset: int
    """First offset without an outcome."""
    hint: int | None
    """Start of its last segment, where the next search may begin; None for a chain without one."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of one chain."""

    end: FoundEnd
    """Its end, when it was last asked for."""
    moved_at: datetime
    """When that end was seen first, UTC."""
    behind_since: datetime | None
    """Since when the chain has had lag without a pause, UTC; None without lag."""


@dataclass(frozen=True, slots=True)
class Watch:
    """The sensor's memory."""

    seen: Mapping[ChainId, Seen] = field(default_factory=dict)
    """What is remembered of each chain."""
    turn: int = 0
    """How many ticks there were; decides whose turn it is."""

    def to_cursor(self) -> str:
        """Returns the memory as text."""
        chains = [
            [c.topic, c.topic_id, c.partition, s.end.offset, s.end.hint, _seconds(s.moved_at), _seconds(s.behind_since)]
            for c, s in sorted(self.seen.items())
        ]
        return json.dumps({"version": _FORMAT_VERSION, "turn": self.turn, "chains": chains}, separators=(",", ":"))

    @classmethod
    def from_cursor(cls, text: str | None, *, now: datetime) -> "Watch":
        """Reads what `to_cursor` wrote; anything else is an empty memory.

        Args:
            text: The cursor, or None.
            now: The clock; later times are taken as now, so that no cursor can put a takeover off for ever.

        Returns:
            The memory.
        """
        try:
            data = json.loads(text or "{}")
            if data["version"] != _FORMAT_VERSION:
                return cls()
            return cls(dict(_read_chain(row, now) for row in data["chains"]), _whole(data["turn"]))
        except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
            return cls()

    def choose(self, logs: Sequence[LogRange]) -> list[LogRange]:
        """Returns the partitions to ask the store for in this tick.

        Args:
            logs: All partitions of the topic.

        Returns:
            Those that look behind (or are not known), up to `MOST_ASKED` in turn, and `OTHERS_ASKED` others in turn.
        """
        behind = [log for log in logs if log.chain not in self.seen or self.seen[log.chain].end.offset != log.log_end]
        chosen = {log.chain for log in behind}
        others = [log for log in logs if log.chain not in chosen]
        return _in_turn(behind, MOST_ASKED, self.turn) + _in_turn(others, OTHERS_ASKED, self.turn)

    def look(
        self, logs: Sequence[LogRange], ends: Mapping[ChainId, FoundEnd], *, now: datetime
    ) -> tuple[list[PartitionView], "Watch"]:
        """Puts together what was seen in this tick.

        Args:
            logs: All partitions of the topic, read before the ends.
            ends: What the store said of those that were asked for.
            now: The clock, UTC.

        Returns:
            The view of every partition that is known, and the memory for the next tick.
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
            views.append(PartitionView(log.partition, log_end, end.offset, moved_at, behind_since))
        return views, Watch(seen, self.turn + 1)


def _settled_end(log: LogRange, before: Seen | None, end: FoundEnd) -> int:
    """Returns the log's end for comparing it with the ledger's.

    The ledger is asked after the log, so it may rightly be ahead. It contradicts the log only where it was ahead
    already in the tick before, since what was in the ledger then was in this log.
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
        raise ValueError(f"{value!r} is no offset")
    return value


def _seconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp())


def _time(seconds: object, now: datetime) -> datetime:
    return min(datetime.fromtimestamp(_whole(seconds), UTC), now)
