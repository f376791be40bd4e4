"""Which ten minutes of which source can be published: those that later frames do not change any more.

A slice of a source is closed when the source has frames after it and its overlap, or when nothing of the source was
processed for a while and the tables have all of it. What is built of it later is not published again.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.lake.build.summary_inputs import list_versions
from imgpipeline.lake.schema import FRAMES
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.ledger import fix_ends, has_segment
from imgpipeline.objectstore import ObjectStore
from imgpipeline.tracking.values import OVERLAP, SLICE, slice_start

QUIET = timedelta(minutes=10)
"""After this time without a processed frame, the last slice of a source is closed too."""
Ends = dict[str, datetime]
"""By source: everything before this time is published."""
_START = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ClosedTime:
    """A time of a source that can be published, within one day."""

    engine: Engine
    """Has the day's tables."""
    source: str
    """The source."""
    begin: datetime
    """Everything before this is published."""
    end: datetime
    """The end of the last closed slice; may be before `begin`."""


@dataclass(slots=True)
class ClosedSlices:
    """The days of a stored table, as one process publishes them."""

    store: ObjectStore
    """The object store."""
    table: str
    """Its days are looked at."""
    opened: Callable[[date], AbstractContextManager[Engine | None]]
    """Opens the tables of a day; None if they are older than its frames."""
    newest: str
    """SQL for source, time of the newest frame, and the last time of processing."""
    held: Callable[[date], object]
    """Called with the day that later days wait for."""
    _settled: dict[date, str] = field(default_factory=dict)

    def times(self, until: Ends, now: datetime) -> Iterator[ClosedTime]:
        """Yields closed times by day and source.

        Days without open slices are not opened again until their table changes. A day whose tables are older than its
        frames ends it: later days wait, so that slices stay in order.

        Args:
            until: What is published.
            now: The time, UTC.

        Raises:
            LedgerError: A segment cannot be read.
            PermanentError: A stored table cannot be used.
            TransientError: The store does not answer.
        """
        for day, version in sorted(list_versions(self.store, self.table).items()):
            if self._settled.get(day) == version:
                continue
            has_open = False
            frames = self.store.head(day_table_key(FRAMES.name, day))
            with self.opened(day) as engine:
                if engine is None or frames is None:
                    self.held(day)
                    return
                sources = list(engine.run(self.newest))
                quiet = {source for source, _, processed in sources if processed is None or now - processed > QUIET}
                has_all = bool(quiet) and self._has_all(day, frames.e_tag)
                for source, newest, _ in sources:
                    is_over = has_all and source in quiet
                    end = slice_start(newest) + SLICE if is_over else slice_start(newest - OVERLAP)
                    has_open |= end <= newest
                    yield ClosedTime(engine, source, until.get(source, _START), end)
            if not has_open:
                self._settled[day] = version

    def _has_all(self, day: date, version: str) -> bool:
        """Tells whether a version of a day's frames has what the ledger has of the day: builds may be late."""
        stored = read_stored(self.store, day_table_key(FRAMES.name, day))
        if stored is None or stored.e_tag != version:
            return False
        ends = {chain: end.offset for chain, end in fix_ends(self.store).items()}
        return not has_segment(self.store, day, ends, since=stored.manifest.ends)


def ends_to_json(until: Mapping[str, datetime]) -> dict[str, Any]:
    """Returns what is published as a JSON object."""
    return {"until": {source: format_time(at) for source, at in sorted(until.items())}}


def parse_ends(data: Any) -> Ends:
    """Reads what `ends_to_json` wrote; raises KeyError, TypeError or ValueError if it is something else."""
    return {source: parse_time(at) for source, at in data["until"].items()}
