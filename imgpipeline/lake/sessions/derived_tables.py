"""Tracks, events, and counts at zones and lines as tables of a query session, as they are stored.

They are read when a query uses them. A day without them reads as empty, and newer segments are not in them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date

from imgpipeline.lake.build.summary_inputs import list_versions, stored_key
from imgpipeline.lake.schema import EVENT_TABLES, PLACE_TABLES, TRACK_TABLES, Table
from imgpipeline.lake.storage.cache import LakeCache
from imgpipeline.lake.storage.engine import Engine, all_rows, identifier
from imgpipeline.objectstore import ObjectStore

_TABLES = (*TRACK_TABLES, *EVENT_TABLES, *PLACE_TABLES)


def create_derived_tables(engine: Engine) -> None:
    """Creates the tables, empty."""
    for table in _TABLES:
        columns = ", ".join(f"{identifier(column.name)} {column.duckdb_type}" for column in table.columns)
        engine.run(f"CREATE TABLE {table.name} ({columns})")


def asks_for_derived(sql: str) -> bool:
    """Tells whether a query may use one of the tables."""
    lowered = sql.lower()
    return any(table.name in lowered for table in _TABLES)


def fill_derived_tables(
    engine: Engine,
    store: ObjectStore,
    cache: LakeCache,
    is_wanted: Callable[[date], bool],
    *,
    tables: Iterable[Table] = _TABLES,
) -> None:
    """Replaces the empty tables by views of what is stored.

    Args:
        engine: DuckDB with the empty tables.
        store: The object store.
        cache: Where fetched files are kept.
        is_wanted: Tells of a UTC day whether it is read.
        tables: Only these.

    Raises:
        PermanentError: The local disk cannot be used.
        TransientError: The store does not answer.
    """
    for table in tables:
        queries = []
        for day, e_tag in sorted(list_versions(store, table.name).items()):
            path = engine.folder / stored_key(table.name, day)
            if is_wanted(day) and cache.link(stored_key(table.name, day), e_tag, path):
                queries.append(all_rows(path, day=day))
        _show(engine, table, queries)
    cache.trim()


def fill_derived_tables_of_day(
    engine: Engine, cache: LakeCache, day: date, versions: Mapping[str, str], *, tables: Iterable[Table] = _TABLES
) -> None:
    """Replaces the empty tables by views of what is stored of one day.

    Args:
        engine: DuckDB with the empty tables.
        cache: Where fetched files are kept.
        day: UTC day.
        versions: The version of each stored table, by its key; a table without one stays empty.
        tables: Only these.

    Raises:
        PermanentError: The local disk cannot be used.
        TransientError: The store does not answer.
    """
    for table in tables:
        key = stored_key(table.name, day)
        if key in versions and cache.link(key, versions[key], engine.folder / key):
            _show(engine, table, [all_rows(engine.folder / key, day=day)])
    cache.trim()


def _show(engine: Engine, table: Table, queries: Sequence[str]) -> None:
    if queries:
        engine.run(f"DROP TABLE {table.name}")
        engine.run(f"CREATE VIEW {table.name} AS {' UNION ALL BY NAME '.join(queries)}")
