"""Finds the closed slices of each source: periods of ten minutes that later frames no longer change.

A slice is closed when the source has frames after the slice and its overlap, or when no frame of the source was
processed for a while and the tables have all of its frames. Results that are built later are not published.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.lake.build.summary_inputs import list_versions, open_tables
from imgpipeline.lake.schema import FRAMES
from imgpipeline.lake.storage.engine import Engine
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.ledger import fix_ends, has_segment
from imgpipeline.objectstore import ObjectStore
from imgpipeline.publish.run import Run
from imgpipeline.tracking.values import OVERLAP, SLICE, slice_start

QUIET = timedelta(minutes=10)
"""After this time without a processed frame, the last slice of a source is closed too."""
Ends = dict[str, datetime]
"""By source: everything before this time is published."""
_START = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ClosedTime:
    """Closed slices of a source within one day."""

    engine: Engine
    """Has the day's tables."""
    source: str
    begin: datetime
    """Everything before this is published."""
    end: datetime
    """The end of the last closed slice; may be before `begin`."""


@dataclass(slots=True)
class ClosedSlices:
    """Finds the closed slices of the days that have a table."""

    run: Run
    """The run of the publisher."""
    table: str
    """The table with the results; its days are searched."""
    tables: tuple[str, ...]
    """The tables to open."""
    versions: Callable[[ObjectStore, date], tuple[str, ...] | None]
    """Returns the e-tags of a day's tables; None if the results were not made from the current frames."""
    newest: str
    """SQL for source, time of the newest frame, and time of the last processing."""
    _settled: dict[date, str] = field(default_factory=dict)

    def times(self, until: Ends) -> Iterator[ClosedTime]:
        """Yields closed times by day and source.

        Days without open slices are opened again only when their table changes. At a day whose tables are older than
        its frames, the search ends: later days wait, so slices are published in order.

        Args:
            until: How far each source is published.

        Raises:
            LedgerError: A segment cannot be read.
            PermanentError: A stored table cannot be used.
            TransientError: The store does not answer.
        """
        store, now = self.run.store, self.run.clock()
        for day, version in sorted(list_versions(store, self.table).items()):
            if self._settled.get(day) == version:
                continue
            has_open = False
            frames = store.head(day_table_key(FRAMES.name, day))
            before = self.versions(store, day)
            with open_tables(store, self.tables, day, memory=self.run.settings.duckdb_memory) as engine:
                if frames is None or before is None or before != self.versions(store, day):
                    self.run.on_waiting(day)
                    return
                sources = list(engine.run(self.newest))
                quiet = {source for source, _, processed in sources if processed is None or now - processed > QUIET}
                has_all = bool(quiet) and _has_all_frames(store, day, frames.e_tag)
                for source, newest, _ in sources:
                    is_over = has_all and source in quiet
                    end = slice_start(newest) + SLICE if is_over else slice_start(newest - OVERLAP)
                    has_open |= end <= newest
                    yield ClosedTime(engine, source, until.get(source, _START), end)
            if not has_open:
                self._settled[day] = version


def _has_all_frames(store: ObjectStore, day: date, version: str) -> bool:
    """Whether this version of a day's frames has everything that the ledger has of the day; builds may be late."""
    stored = read_stored(store, day_table_key(FRAMES.name, day))
    if stored is None or stored.e_tag != version:
        return False
    ends = {chain: end.offset for chain, end in fix_ends(store).items()}
    return not has_segment(store, day, ends, since=stored.manifest.ends)


def ends_to_json(until: Mapping[str, datetime]) -> dict[str, Any]:
    """Returns how far each source is published, as a JSON object."""
    return {"until": {source: format_time(at) for source, at in sorted(until.items())}}


def parse_ends(data: Any) -> Ends:
    """Parses what `ends_to_json` wrote; raises KeyError, TypeError or ValueError for other data."""
    return {source: parse_time(at) for source, at in data["until"].items()}
