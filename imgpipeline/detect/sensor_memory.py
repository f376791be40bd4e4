"""The sensor's memory from tick to tick, and the choice of the partitions whose ledger ends it reads from the store.

The memory lives in the code server and becomes the input of `lanes.decide`. It is only a hint: losing it costs a few
requests and delays a takeover. It cannot hide a frame for long, because every tick reads the ends of some partitions in
turn, and it cannot affect the ledger. The functions are pure; the sensor makes the requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.records import LogRange
from imgpipeline.ledger.reading import ChainEnd
from imgpipeline.stream.lanes import PartitionView

MOST_ASKED = 64
"""Maximum number of partitions with apparent lag whose ends are read in one tick; more than these take turns."""
OTHERS_ASKED = 4
"""Number of other partitions whose ends are read in one tick, in turn."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The memory of one chain."""

    end: ChainEnd
    """As it was last read."""
    moved_at: datetime
    behind_since: datetime | None
    """When the current, uninterrupted lag began, UTC; None without lag."""


@dataclass(frozen=True, slots=True)
class SensorMemory:
    """The sensor's memory."""

    seen: Mapping[ChainId, Seen] = field(default_factory=dict)
    turn: int = 0
    """Number of ticks so far; determines which partitions have their turn."""

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
        ends: Mapping[ChainId, ChainEnd],
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


def _settled_end(log: LogRange, before: Seen | None, end: ChainEnd) -> int:
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
