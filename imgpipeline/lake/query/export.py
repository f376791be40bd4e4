"""Exports all tables of a query session into one DuckDB file, for other tools.

All tables show the moment of the session. They are filled day by day, so that at most one day is grouped or sorted at
once, however long the history is.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from imgpipeline import __version__
from imgpipeline.contracts.keys import ChainId
from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.schema import ALL
from imgpipeline.lake.schema.tables import (
    ABOUT,
    ABOUT_CHAINS,
    DETECTIONS,
    FRAME_STATS,
    FRAMES,
    HISTOGRAM_VIEWS,
    NOTICES,
    WEAK_DETECTIONS,
    Table,
)
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.lake.sessions.tables import histogram_sql
from imgpipeline.lake.storage.engine import engine_errors, identifier, quoted, scratch_folder
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_STORAGE = "v1.0.0"
"""A storage format that DuckDB 1, which many tools embed, can open; it cannot open the format of DuckDB 2."""
_FILE = "exported"
"""Name of the file as an attached database."""
_BY_DAY = frozenset({*SUMMARIES, *(table.name for table in (FRAMES, DETECTIONS, WEAK_DETECTIONS, NOTICES))})
_NEXT_STEP = "name another file, or replace this one with --replace"

Progress = Callable[[int, int], None]
"""Called with the number of finished queries and of all queries."""


@dataclass(frozen=True, slots=True)
class Export:
    """An exported file."""

    path: Path
    size_bytes: int
    rows: Mapping[str, int]
    days: tuple[date, ...]
    """UTC days of the file, sorted."""
    ends: Mapping[ChainId, int]
    """The end up to which it shows each chain."""


def export_duckdb(
    store: ObjectStore,
    settings: Settings,
    path: Path,
    *,
    now: datetime,
    days: Sequence[date] | None = None,
    force: bool = False,
    progress: Progress = lambda _done, _all: None,
    cache_dir: Path | None = None,
) -> Export:
    """Writes all tables into one DuckDB file, completely or not at all.

    Args:
        settings: As for a query session.
        path: The file. It is written to a folder next to it and moved at the end.
        now: Time of the export, for the table `about`.
        days: Only these UTC days; default: all.
        force: Replace an existing file.
        progress: Called after each query.
        cache_dir: As for a query session.

    Returns:
        The written file.

    Raises:
        ConfigurationError: The file exists, is in use, or cannot be written there.
        LedgerError: A segment cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or memory or disk do not suffice.
        TransientError: The store does not answer.
    """
    path = path.resolve()  # a link stays a link
    _check_place(path, force=force)
    with _folder_next_to(path) as folder:
        written = folder / path.name
        with (
            open_lake(store, settings=settings, days=days, cache_dir=cache_dir, is_locked=False) as lake,
            engine_errors(),
        ):
            shown = lake.snapshot
            rows = _write(lake, written, progress)
            about = {
                "store_url": store.url,
                "exported_at": now,
                "imgpipeline_version": __version__,
                "summary_threshold": settings.summary_threshold,
                "all_days": days is None,
                "first_day": shown.days[0] if shown.days else None,
                "last_day": shown.days[-1] if shown.days else None,
            }
            _describe(lake.connection, about, shown.ends)
            lake.connection.execute(f"DETACH {_FILE}")
        _check_place(path, force=force)
        written.replace(path)
    return Export(path, path.stat().st_size, rows, shown.days, shown.ends)


def _check_place(path: Path, *, force: bool) -> None:
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"{path} is a folder, a pipe or a device, not a file.", next_step="name a file")
    if path.exists() and not force:
        raise ConfigurationError(f"{path} exists.", next_step=_NEXT_STEP)
    if path.with_name(f"{path.name}.wal").exists():
        # DuckDB would apply the old file's log to the new one.
        raise ConfigurationError(
            f"{path.name}.wal exists next to {path}: a program has the file open for writing, or was killed.",
            next_step="close that program and open the file once with DuckDB, or name another file",
        )


@contextlib.contextmanager
def _folder_next_to(path: Path) -> Iterator[Path]:
    """Makes a folder on the same disk as the file, so that the file can be moved into place atomically."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder(path.parent, f".{path.name}.export-"))
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be written: {error.strerror or error}.", next_step="name a file in another folder"
            ) from error
        yield folder


def _write(lake: LakeSession, file: Path, progress: Progress) -> dict[str, int]:
    """Creates and fills all tables; returns the number of rows of each."""
    connection = lake.connection  # reads the ledger for `dead_letters` and `segments`
    connection.execute(f"ATTACH {quoted(str(file))} AS {_FILE} (STORAGE_VERSION '{_STORAGE}')")
    queries = {table: list(_queries(table, lake.snapshot.days)) for table in ALL}
    total, done = sum(map(len, queries.values())), 0
    rows: dict[str, int] = {}
    for table, parts in queries.items():
        connection.execute("BEGIN")
        _create(connection, table)
        for day, query in parts:
            with lake.of_days(None if day is None else [day]):
                connection.execute(f"INSERT INTO {_FILE}.{table.name} BY NAME SELECT * FROM ({query}\n)")  # noqa: S608 - own SQL
            done += 1
            progress(done, total)
        connection.execute("COMMIT")
        [(rows[table.name],)] = connection.execute(f"SELECT count(*) FROM {_FILE}.{table.name}").fetchall()  # noqa: S608 - own names
    return rows


def _queries(table: Table, days: Sequence[date]) -> Iterator[tuple[date | None, str]]:
    """Yields the queries that together return a table's rows, each with its day if it is about one."""
    if table.name in _BY_DAY:
        for day in days:
            yield day, f"SELECT * FROM {table.name} WHERE day = DATE '{day}'"  # noqa: S608 - a day
    elif table in HISTOGRAM_VIEWS:  # `frame_stats` was filled before
        stats = f"WITH {FRAME_STATS.name} AS (SELECT * FROM {_FILE}.{FRAME_STATS.name})"  # noqa: S608 - own names
        yield None, f"{stats} SELECT * FROM ({histogram_sql(table.name)}\n)"  # noqa: S608 - own SQL
    else:
        yield None, f"SELECT * FROM {table.name}"  # noqa: S608 - own names


def _create(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    connection.execute(f"CREATE TABLE {_FILE}.{table.name} ({table.typed_columns})")
    connection.execute(f"COMMENT ON TABLE {_FILE}.{table.name} IS {quoted(f'One row: {table.row}.')}")
    for column in table.columns:
        place, unit = f"{_FILE}.{table.name}.{identifier(column.name)}", f" [{column.unit}]" if column.unit else ""
        connection.execute(f"COMMENT ON COLUMN {place} IS {quoted(column.meaning + unit)}")


def _describe(connection: duckdb.DuckDBPyConnection, about: Mapping[str, object], ends: Mapping[ChainId, int]) -> None:
    """Adds the tables that describe the file."""
    chains = [(chain.topic, chain.topic_id, chain.partition, end) for chain, end in sorted(ends.items())]
    for table, rows in ((ABOUT, [tuple(about[name] for name in ABOUT.names)]), (ABOUT_CHAINS, chains)):
        _create(connection, table)
        marks = ", ".join("?" * len(table.columns))
        for row in rows:
            connection.execute(f"INSERT INTO {_FILE}.{table.name} VALUES ({marks})", row)  # noqa: S608 - own names
