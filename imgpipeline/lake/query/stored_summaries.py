"""Summaries over several days, combined from the stored summaries of each day.

Current summaries are read from the store. Stale ones are computed from day tables and ledger, as a build would. So a
year costs a few listings and one small file per day. docs/tables.md names the columns that can be added up.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, tzinfo
from pathlib import Path

import pyarrow as pa

from imgpipeline.lake.build.day_catalog import DayCatalog, join_versions, open_catalog
from imgpipeline.lake.build.derived import Origin, State, judge
from imgpipeline.lake.build.summaries import SUMMARIES, find_summary, recipe, summary_origin
from imgpipeline.lake.build.summary_inputs import list_versions, stored_key
from imgpipeline.lake.schema import FRAME_STATS, LABEL_COUNTS, Table
from imgpipeline.lake.sessions.local_time import create_time_macros, local_days, show_local_days, utc_days
from imgpipeline.lake.sessions.session import Answer, create_summary_views, query_errors
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS, take_snapshot
from imgpipeline.lake.storage.cache import LakeCache, open_cache
from imgpipeline.lake.storage.engine import Engine, identifier, lock, open_engine, rows_with_days
from imgpipeline.lake.storage.manifest import Manifest, parse_footer, read_version
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_READERS = 16
_SPAN = "span"
_BY_HOUR = {FRAME_STATS.name, LABEL_COUNTS.name}
"""Summaries by hour, which can be added up for any day that consists of whole UTC hours."""


@dataclass(frozen=True, slots=True)
class SummarySpan:
    """Open summaries of some days. Opened by `open_summaries`."""

    engine: Engine
    """DuckDB with a table for each summary, under its name."""
    days: tuple[date, ...]
    """The UTC days that were read, sorted; for another time zone, including neighbouring days."""
    counted_now: Mapping[str, tuple[date, ...]]
    """The UTC days that were not read from the stored summary, sorted, by summary."""

    def query(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> Answer:
        """Runs one query of this project over the summaries.

        Args:
            sql: Such as `SELECT label, sum(count) FROM label_counts GROUP BY label`.
            parameters: Values for its placeholders, by place or by name.

        Raises:
            ConfigurationError: DuckDB rejects it.
            PermanentError: This machine has too little memory or disk for it.
        """
        with query_errors():
            return Answer.of(self.engine.connection.execute(sql, parameters))

    def arrow(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> pa.Table:
        """Runs one query and returns an Arrow table, whose types do not depend on the rows."""
        with query_errors():
            table: pa.Table = self.engine.connection.sql(sql, params=parameters).to_arrow_table()
            return table


@contextlib.contextmanager
def open_summaries(
    store: ObjectStore,
    settings: Settings,
    names: Iterable[str],
    *,
    days: Sequence[date] | None = None,
    zone: tzinfo = UTC,
    cache_dir: Path | None = None,
) -> Iterator[SummarySpan]:
    """Opens summaries of some days as tables, each with the column `day`.

    In another time zone `day` and `hour` are local (`local_time`). Stored summaries by hour are used for zones whose
    hours start at full hours of UTC; everything else is computed from the day tables.

    Args:
        store: The object store.
        settings: Settings of summaries.
        names: Keys of `SUMMARIES`.
        days: Only these days of the time zone; default: all.
        zone: The time zone of days and hours.
        cache_dir: As for a query session.

    Yields:
        The summaries. Each day is shown at the moment of this call or slightly later.

    Raises:
        ConfigurationError: There is no such summary.
        LedgerError: A segment newer than a day's tables cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or the local disk cannot be used.
        TransientError: The store does not answer.
    """
    wanted = {name: find_summary(name).table for name in names}
    with (
        open_cache(store, cache_dir) as (folder, cache),
        open_engine(folder, memory=settings.duckdb_memory) as engine,
    ):
        read = days if zone is UTC or days is None else sorted(utc_days(days))
        found = _Finding(store, settings, cache, folder / "summaries", read)
        shown = sorted(set(found.known) | {day for name in wanted for day in found.versions(name)})
        local = local_days(zone, shown[0], shown[-1]) if shown and zone is not UTC else None
        create_time_macros(engine, local)
        is_recounted = local is not None and not (local.has_whole_hours and _BY_HOUR.issuperset(wanted))
        current = {name: {} if is_recounted else found.current(name) for name in wanted}
        cache.trim()
        found.catalog.save()
        counted_now = {name: tuple(day for day in shown if day not in current[name]) for name in wanted}
        behind = sorted({day for several in counted_now.values() for day in several})
        if behind:
            take_snapshot(store, engine, cache, behind)
            if is_recounted:
                show_local_days(engine, SHOWN_LETTERS)
            create_summary_views(engine, settings, local=is_recounted)
        engine.run(f"CREATE SCHEMA {_SPAN}")
        for name, table in wanted.items():
            _create(engine, table, list(current[name].values()), counted_now[name], all_days=is_recounted)
            if local:
                _move_days(engine, table, days)
        engine.run(f"SET search_path = '{_SPAN}'")
        lock(engine)
        yield SummarySpan(engine, tuple(shown), counted_now)


def _create(
    engine: Engine, table: Table, paths: list[Path], counted_now: Sequence[date], *, all_days: bool = False
) -> None:
    columns = ", ".join(identifier(name) for name in table.names)
    engine.run(f"CREATE TABLE {_SPAN}.{table.name} ({table.typed_columns})")
    if paths:
        engine.run(f"INSERT INTO {_SPAN}.{table.name} SELECT {columns} FROM {rows_with_days(paths)}")  # noqa: S608 - own names
    if counted_now:
        only = f"SELECT {columns} FROM main.{table.name} WHERE ? OR list_contains(?, day)"  # noqa: S608 - own names
        engine.run(f"INSERT INTO {_SPAN}.{table.name} {only}", [all_days, list(counted_now)])


def _move_days(engine: Engine, table: Table, days: Sequence[date] | None) -> None:
    """Sets the local day of each row, and deletes rows of other days."""
    if "hour" in table.names:
        engine.run(f"UPDATE {_SPAN}.{table.name} SET day = local_day(hour) WHERE hour IS NOT NULL")  # noqa: S608 - own names
    if days is not None:
        engine.run(f"DELETE FROM {_SPAN}.{table.name} WHERE NOT list_contains(?, day)", [list(days)])  # noqa: S608 - own names


@dataclass(slots=True)
class _Finding:
    """Finds the current summaries of some days."""

    store: ObjectStore
    settings: Settings
    cache: LakeCache
    folder: Path
    days: Sequence[date] | None
    catalog: DayCatalog = field(init=False)
    known: list[date] = field(init=False)
    _files: dict[str, dict[date, tuple[Manifest, str, Path]]] = field(default_factory=dict)
    _versions: dict[str, dict[date, str]] = field(default_factory=dict)
    _read: dict[tuple[str, date], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog = open_catalog(self.store)
        self.known = [day for day in self.catalog.days if self.days is None or day in self.days]

    def stored(self, name: str) -> dict[date, tuple[Manifest, str, Path]]:
        """Returns the manifest, e-tag and local file of each stored day of a summary."""
        if name not in self._files:

            def take(day: date, e_tag: str) -> tuple[date, tuple[Manifest, str, Path]] | None:
                key = stored_key(name, day)
                path = self.folder / key
                return (day, (parse_footer(path, key), e_tag, path)) if self.cache.link(key, e_tag, path) else None

            versions = self.versions(name)
            with ThreadPoolExecutor(_READERS) as pool:
                self._files[name] = dict(filter(None, pool.map(take, versions.keys(), versions.values())))
        return self._files[name]

    def versions(self, table: str) -> dict[date, str]:
        """Returns the e-tag of each stored day of a table, with one listing."""
        if table not in self._versions:
            listed = list_versions(self.store, table)
            self._versions[table] = {
                day: version for day, version in listed.items() if self.days is None or day in self.days
            }
        return self._versions[table]

    def current(self, name: str) -> dict[date, Path]:
        """Returns the files of the days whose stored summary is current."""
        self._look_up(name)
        days = sorted(self.stored(name))
        with ThreadPoolExecutor(_READERS) as pool:
            is_current = pool.map(lambda day: self._is_current(name, day), days)
            return {day: self._files[name][day][2] for day, yes in zip(days, is_current, strict=True) if yes}

    def _look_up(self, name: str) -> None:
        """Reads everything that the threads of `current` share."""
        self.stored(name)
        for table in SUMMARIES[name].inputs:
            self.versions(table)
            if table in SUMMARIES:
                self._look_up(table)

    def _is_current(self, name: str, day: date) -> bool:
        stored = self.stored(name).get(day)
        if stored is None or stored[0].made_by != recipe(name, self.settings):
            return False
        manifest, e_tag, _ = stored
        inputs = SUMMARIES[name].inputs
        if not all(self._is_current(table, day) for table in inputs if table in SUMMARIES):
            return False
        # These objects belong together: once that is known, their manifests need not be read again.
        listed = join_versions([e_tag, *(self.versions(table).get(day) for table in inputs)])
        if self.catalog.known.is_complete(day, name, listed):
            return True
        if self.catalog.known.has_newer_segments(day, manifest.ends) or not self._matches(manifest, inputs, day):
            return False
        return not self.catalog.has_newer_segments(day, name, listed, manifest.ends)

    def _matches(self, manifest: Manifest, inputs: Iterable[str], day: date) -> bool:
        """Tells whether a summary was made of the inputs that are stored now, by their manifests."""
        made_of = {table: self._version(table, day) for table in inputs}
        return judge([summary_origin(manifest)], Origin(made_of, manifest.made_by)) is State.CURRENT

    def _version(self, table: str, day: date) -> str:
        """Returns the version of a stored table; several threads may read it twice, which harms nothing."""
        if table in SUMMARIES:
            return self.stored(table)[day][0].version
        if (table, day) not in self._read:
            found = read_version(self.store, stored_key(table, day))
            self._read[table, day] = found.manifest if found else ""
        return self._read[table, day]
