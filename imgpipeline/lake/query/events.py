"""The stored events of some days, the latest first: `imgpipeline events list`, `Lake.events`."""

from dataclasses import asdict, dataclass

import pyarrow as pa

from imgpipeline.lake.query.conditions import equal_to
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.schema import EVENTS
from imgpipeline.lake.sessions.derived_tables import create_derived_tables, fill_derived_tables
from imgpipeline.lake.storage.cache import open_cache
from imgpipeline.lake.storage.engine import identifier, open_engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class WantedEvents:
    """Which events are wanted."""

    rule: str | None = None
    """Only those of this rule."""
    source: str | None = None
    """Only those of this source."""
    kind: str | None = None
    """Only those of rules of this kind."""
    event_id: str | None = None
    """Only the one of this name."""


_ALL = WantedEvents()


def find_events(
    store: ObjectStore, settings: Settings, span: Span, wanted: WantedEvents = _ALL, limit: int | None = None
) -> tuple[pa.Table, int]:
    """Finds events: all columns of the table `events`.

    Args:
        store: The object store.
        settings: Limits of DuckDB.
        span: UTC days.
        wanted: Which events.
        limit: At most this many, from 1; None: all.

    Returns:
        The events, the latest first, and how many there are in all.

    Raises:
        PermanentError: A stored table is not a Parquet file, or memory or disk do not suffice.
        TransientError: The store does not answer.
    """
    condition = equal_to(**asdict(wanted))
    columns = ", ".join(map(identifier, EVENTS.names))
    with open_cache(store) as (folder, cache), open_engine(folder, memory=settings.duckdb_memory) as engine:
        create_derived_tables(engine)
        fill_derived_tables(engine, store, cache, lambda day: day in span, tables=(EVENTS,))
        shown = f"SELECT {columns} FROM events WHERE {condition} "  # noqa: S608 - own names, quoted
        order = 'ORDER BY "timestamp" DESC, event_id' + (f" LIMIT {int(limit)}" if limit else "")
        table: pa.Table = engine.connection.sql(shown + order).to_arrow_table()
        return table, engine.value(f"SELECT count(*) FROM events WHERE {condition}")  # noqa: S608 - as above
