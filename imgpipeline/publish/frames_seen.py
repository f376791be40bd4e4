"""Which frames of a day are published, so that a frame that was announced twice is published once."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Frame, offsets_of
from imgpipeline.ledger import read_day
from imgpipeline.objectstore import ObjectStore

_DAYS_HELD = 4


@dataclass(slots=True)
class FramesSeen:
    """The frames of the latest days that were published; of any other day they are read from the ledger."""

    store: ObjectStore
    """The object store."""
    _days: OrderedDict[date, set[bytes]] = field(default_factory=OrderedDict)

    def add(self, frame: Frame, ends: Mapping[ChainId, int]) -> bool:
        """Adds a frame; returns False if its name is published already.

        Args:
            frame: The frame.
            ends: By chain: everything before this offset was published, before this frame was.

        Raises:
            LedgerError: A segment of the frame's day cannot be read.
            TransientError: The store does not answer.
        """
        day = frame.day
        if day not in self._days:
            self._days[day] = self._read(day, ends)
            if len(self._days) > _DAYS_HELD:
                self._days.popitem(last=False)
        self._days.move_to_end(day)
        seen = self._days[day]
        name = frame.frame_id.encode()
        if name in seen:
            return False
        seen.add(name)
        return True

    def _read(self, day: date, ends: Mapping[ChainId, int]) -> set[bytes]:
        seen = set()
        for segment in read_day(self.store, day, ends):
            end = ends.get(segment.header.chain, 0)
            for outcome in segment.outcomes():
                if isinstance(outcome, Frame) and outcome.day == day and offsets_of(outcome)[1] <= end:
                    seen.add(outcome.frame_id.encode())
        return seen
