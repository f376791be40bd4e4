"""Tracks and unique objects as tables of a query session.

They show what is stored: frames newer than a day's tracks are not in them, and a day without tracks has no rows. Their
files are fetched only when a query uses them.
"""

from collections.abc import Sequence
from datetime import date

from imgpipeline.lake.build.summary_inputs import list_versions, stored_key
from imgpipeline.lake.schema.tracks import TRACK_TABLES
from imgpipeline.lake.storage.cache import LakeCache
from imgpipeline.lake.storage.engine import Engine, all_rows, identifier
from imgpipeline.objectstore import ObjectStore


def create_track_tables(engine: Engine) -> None:
    """Creates the tables, empty."""
    for table in TRACK_TABLES:
        columns = ", ".join(f"{identifier(column.name)} {column.duckdb_type}" for column in table.columns)
        engine.run(f"CREATE TABLE {table.name} ({columns})")


def asks_for_tracks(sql: str) -> bool:
    """Tells whether a query may use one of the tables."""
    lowered = sql.lower()
    return any(table.name in lowered for table in TRACK_TABLES)


def fill_track_tables(engine: Engine, store: ObjectStore, cache: LakeCache, days: Sequence[date] | None) -> None:
    """Replaces the empty tables by views of what is stored.

    Args:
        engine: DuckDB with the empty tables.
        store: The object store.
        cache: Where fetched files are kept.
        days: Only these; None: all.

    Raises:
        PermanentError: The local disk cannot be used.
        TransientError: The store does not answer.
    """
    for table in TRACK_TABLES:
        queries = []
        for day, e_tag in sorted(list_versions(store, table.name).items()):
            path = engine.folder / stored_key(table.name, day)
            if (days is None or day in days) and cache.link(stored_key(table.name, day), e_tag, path):
                queries.append(all_rows(path, day=day))
        if queries:
            engine.run(f"DROP TABLE {table.name}")
            engine.run(f"CREATE VIEW {table.name} AS {' UNION ALL BY NAME '.join(queries)}")
    cache.trim()
