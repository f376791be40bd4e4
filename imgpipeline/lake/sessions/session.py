"""A query session: SQL over the lake's tables at one moment.

All tables show the same moment (`snapshot`). Summaries are the stored ones where these are current, and are counted by
the same queries elsewhere (`sessions.summaries`). A user's query can neither write files nor read files outside the
session.
"""

import contextlib
import json
import re
import tempfile
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.lake.days.day_catalog import StoredStates, open_catalog
from imgpipeline.lake.days.summaries import SUMMARIES, parameters_of, set_parameters
from imgpipeline.lake.days.summary_inputs import list_versions, stored_key
from imgpipeline.lake.schema import ALL
from imgpipeline.lake.schema.tables import DEAD_LETTERS, FRAMES, SEGMENTS
from imgpipeline.lake.sessions.local_time import (
    DAY_OF_LETTER,
    DAY_OF_NOTICE,
    DAY_OF_ROW,
    LocalDays,
    create_time_macros,
    in_zone,
    local_days,
    show_local_days,
    utc_days,
)
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS, Snapshot, show_nothing, take_snapshot
from imgpipeline.lake.sessions.summaries import (
    HOURLY,
    WANTED_DAYS,
    Linked,
    dates,
    link_current,
    local_summaries,
    show_summary,
    summaries_in,
    with_inputs,
)
from imgpipeline.lake.sessions.tables import (
    LEDGER_MACROS,
    asks_for_derived,
    create_derived_tables,
    create_histogram_views,
    create_ledger_tables,
    create_macros,
    fill_derived_tables,
    fill_ledger_tables,
)
from imgpipeline.lake.storage.cache import LakeCache, open_cache
from imgpipeline.lake.storage.engine import Engine, lock, open_engine
from imgpipeline.lake.storage.manifest import BaseManifest
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
_READ_TABLE = re.compile(r'\b(?:from|join)\s+"?(\w+)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a query."""

    columns: tuple[str, ...]
    """Column names, in order."""
    rows: list[tuple[Any, ...]]
    """Rows as Python values; times are aware UTC."""

    @classmethod
    def of(cls, cursor: duckdb.DuckDBPyConnection) -> "Answer":
        """Fetches all rows of an executed query."""
        return cls(tuple(column[0] for column in cursor.description or ()), cursor.fetchall())


@dataclass(slots=True)
class _Shared:
    """The state that a session and its cursors share."""

    store: ObjectStore
    cache: LakeCache
    days: Sequence[date] | None
    settings: Settings | None
    """Settings of summaries; None: stored summaries are not used."""
    parameters: Mapping[str, float]
    stored: Mapping[str, str] | None = None
    linked: dict[str, Linked] = field(default_factory=dict)
    """The stored summaries that the views show."""
    listed: dict[str, Mapping[date, str]] = field(default_factory=dict)
    """The e-tag of each stored day, by summary."""
    looked_at: defaultdict[str, set[date]] = field(default_factory=lambda: defaultdict(set))
    """The days on which a stored summary was looked for, by name."""
    has_ledger_tables: bool = False
    has_derived_tables: bool = False
    zones: dict[tzinfo, tuple[str, LocalDays]] = field(default_factory=dict)
    """The schema with the macros of each zone, and its offsets."""
    days_by_zone: dict[tzinfo, tuple[date, ...]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class LakeSession:
    """The lake at one moment. Opened by `open_lake`; each thread uses its own `cursor`."""

    def __init__(self, shared: _Shared, engine: Engine, snapshot: Snapshot, local: LocalDays | None = None) -> None:
        """Wraps an engine with the views of a snapshot and, for a time zone, the macros of `local_time`."""
        self._shared = shared
        self._engine = engine
        self.snapshot = snapshot
        self.local = local
        """The time zone of `days`, `of_days` and filters of frames; None: UTC. The tables always have UTC days."""
        self._limit: SessionDays | None = None
        """The days of `of_days`, while they are open."""

    @contextlib.contextmanager
    def cursor(self, zone: tzinfo = UTC) -> Iterator["LakeSession"]:
        """Opens the same tables for another thread, within a few milliseconds.

        Yields:
            A session for one thread; any thread may call `interrupt`.
        """
        with contextlib.closing(self._engine.connection.cursor()) as connection:
            engine = Engine(connection, self._engine.folder)
            set_parameters(engine, self._shared.parameters)  # variables belong to a connection
            local = self._in_zone(engine, zone) if zone is not UTC and self.snapshot.days else None
            yield LakeSession(self._shared, engine, self.snapshot, local)

    def _in_zone(self, engine: Engine, zone: tzinfo) -> LocalDays:
        """Lets the queries of a connection use the macros of a zone; views keep those of UTC."""
        days, zones = self.snapshot.days, self._shared.zones
        with self._shared.lock:
            schema, local = zones.get(zone) or (f"zone_{len(zones)}", local_days(zone, days[0], days[-1]))
            engine.run(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            engine.run(f"SET search_path = '{schema},main'")
            if zone not in zones:
                create_time_macros(engine, local, schema=schema)
                zones[zone] = schema, local
        return local

    def stored_file(self, table: str, day: date) -> Path | None:
        """Returns the file of a UTC day's table of tracks, events, zones or lines; None if it is not built."""
        self._fill_derived_tables()
        path = self._engine.folder / stored_key(table, day)
        return path if path.exists() else None

    def stored_rows(self, table: str, days: Collection[date]) -> pa.Table:
        """Returns the rows of a stored table of some UTC days, which may be missing, without newer segments.

        Raises:
            PermanentError: The local disk cannot be used.
            TransientError: The store does not answer.
        """
        shared, found = self._shared, []
        for day, e_tag in sorted(list_versions(shared.store, table, shared.stored).items()):
            if day not in days:
                continue
            with tempfile.TemporaryDirectory(dir=self._engine.folder) as folder:
                if shared.cache.link(stored_key(table, day), e_tag, Path(folder, table)):
                    rows = pq.read_table(Path(folder, table), partitioning=None)
                    found.append(rows.add_column(0, "day", pa.array([day] * rows.num_rows, pa.date32())))
        return pa.concat_tables(found) if found else pa.table({})

    @property
    def days(self) -> tuple[date, ...]:
        """The days in the session's zone with a frame, dead letter or notice, sorted."""
        if self.local is None:
            return self.snapshot.days
        known = self._shared.days_by_zone
        if (days := known.get(self.local.zone)) is None:
            rows = self.query(
                f"SELECT {DAY_OF_ROW} FROM frames UNION SELECT {DAY_OF_LETTER} FROM {SHOWN_LETTERS} "  # noqa: S608 - own names
                f"UNION SELECT {DAY_OF_NOTICE} FROM notices ORDER BY 1"
            ).rows
            days = known[self.local.zone] = tuple(day for (day,) in rows)
        return days

    def day_of(self, instant: datetime) -> date:
        """Returns the day of an instant in the session's zone."""
        return in_zone(instant, self.local.zone if self.local else UTC).date()

    @contextlib.contextmanager
    def of_days(self, days: Collection[date] | None) -> Iterator["SessionDays"]:
        """Limits the summaries of this session to some days.

        Args:
            days: Days in the session's zone; None: all.

        Yields:
            Answers queries about these days, whose `day` and `hour` are those of the session's zone.
        """
        utc: tuple[date, ...] | None = None if days is None else tuple(sorted(days))
        if self.local and utc:
            first, last = self.local.utc_days(utc[0], utc[-1])
            utc = tuple(first + timedelta(days=n) for n in range((last - first).days + 1))
        self._limit = SessionDays(self, days, utc)
        if utc is not None:
            self._engine.run(f"SET VARIABLE {WANTED_DAYS} = {dates(utc)}")
        try:
            yield self._limit
        finally:
            self._limit = None
            self._engine.run(f"RESET VARIABLE {WANTED_DAYS}")

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection with all tables, for Arrow, pandas and relations."""
        self._fill_ledger_tables()
        self._fill_derived_tables()
        self._link_summaries(SUMMARIES)
        return self._engine.connection

    def interrupt(self) -> None:
        """Interrupts the query that runs in another thread, which gets an error."""
        self._engine.connection.interrupt()

    def query(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> Answer:
        """Runs one query.

        Args:
            sql: One SELECT, WITH, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN.
            parameters: Values for its placeholders, by place or by name.

        Returns:
            All rows.

        Raises:
            ConfigurationError: DuckDB rejects the query, or it is not one statement that only reads.
            PermanentError: This machine has too little memory or disk for it.
            LedgerError: The query uses `segments` or `dead_letters`, and a segment cannot be read.
        """
        with query_errors():
            return Answer.of(self.execute(sql, parameters))

    def rows(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Returns the rows of `query`."""
        return self.query(sql, parameters).rows

    def execute(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> duckdb.DuckDBPyConnection:
        """Runs one query and returns DuckDB's cursor, for `description`, `fetchmany`, `to_arrow_table`.

        Raises:
            ConfigurationError: As for `query`. Fetching rows may raise DuckDB's own errors.
            LedgerError: As for `query`.
        """
        with query_errors(sql):
            return self._engine.connection.execute(self._checked(sql), parameters)

    def arrow(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> pa.Table:
        """Runs one query and returns an Arrow table, whose types do not depend on the rows.

        Raises:
            ConfigurationError: As for `query`.
            PermanentError: As for `query`.
            LedgerError: As for `query`.
        """
        with query_errors(sql):
            table: pa.Table = self._engine.connection.sql(
                self._checked(sql), params=parameters or None
            ).to_arrow_table()
            return table

    def _checked(self, sql: str) -> duckdb.Statement:
        """Returns the statement of a query, which must only read; first fills the tables that it uses."""
        statements = self._engine.connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type not in _READING:
            got = "one that changes something" if len(statements) == 1 else counted(len(statements), "statement")
            raise ConfigurationError(
                f"Got {got}; expected one statement that only reads.",
                next_step='begin it with SELECT, WITH, DESCRIBE or SHOW, such as "SELECT * FROM label_counts"',
            )
        if self._asks_for_the_ledger(sql):
            self._fill_ledger_tables()
        if asks_for_derived(sql):
            self._fill_derived_tables()
        names, limit = summaries_in(sql), self._limit
        if limit is None or self.local is None:
            self._link_summaries(names, limit.utc_days if limit else None)
        elif self.local.has_whole_hours:
            self._link_summaries(HOURLY.intersection(names), limit.utc_days)
        return statements[0]

    def _asks_for_the_ledger(self, sql: str) -> bool:
        lowered, names = sql.lower(), {SEGMENTS.name, DEAD_LETTERS.name}
        if any(name in lowered for name in LEDGER_MACROS):
            return True
        if not any(name in lowered for name in names):
            return False
        # A column or text may also contain the name. EXPLAIN and table names in texts cannot be parsed.
        text = str(self._engine.value("SELECT json_serialize_sql(?)", [sql]))
        parsed, by_text = json.loads(text), '"function_name":"query'  # `query` and `query_table`
        return bool(parsed["error"]) or by_text in text or not names.isdisjoint(_tables_in(parsed))

    def _fill_ledger_tables(self) -> None:
        shared = self._shared
        with shared.lock:
            if not shared.has_ledger_tables:
                fill_ledger_tables(self._engine, shared.store, self.snapshot.ends, shared.days)
                shared.has_ledger_tables = True

    def _fill_derived_tables(self) -> None:
        shared, days = self._shared, self._shared.days
        with shared.lock:
            if not shared.has_derived_tables:
                fill_derived_tables(
                    self._engine,
                    shared.store,
                    shared.cache,
                    lambda day: days is None or day in days,
                    listed=shared.stored,
                )
                shared.has_derived_tables = True

    def _link_summaries(self, names: Collection[str], days: Collection[date] | None = None) -> None:
        """Shows the stored summaries of some days in the views; counted days stay as they are."""
        shared, shown, settings = self._shared, self.snapshot.versions, self._shared.settings
        if settings is None or not names:
            return
        with shared.lock:
            listed = {}
            for name in with_inputs(names):
                due = shown.keys() - shared.looked_at[name]
                due = due if days is None else due.intersection(days)
                if due and name not in shared.listed:
                    try:
                        shared.listed[name] = list_versions(shared.store, name)
                    except TransientError:  # the session has the tables, so it can count without the store
                        shared.listed[name] = {}
                shared.looked_at[name].update(due)
                listed[name] = {day: shared.listed[name][day] for day in due if day in shared.listed[name]}
            if any(listed.values()):
                before, folder = shared.linked, self._engine.folder
                shared.linked = link_current(
                    shared.cache, folder, settings, listed, lambda manifest, _: self.shows_inputs_of(manifest), before
                )
                for name, linked in shared.linked.items():
                    if linked != before.get(name, {}):
                        show_summary(self._engine, SUMMARIES[name], linked)

    def shows_inputs_of(self, manifest: BaseManifest) -> bool:
        """Tells whether a stored table was made of the day tables that the session shows, without newer segments."""
        shown, made_of = self.snapshot.versions.get(manifest.day), manifest.made_of
        return shown is not None and all(shown[table] == made_of[table] for table in shown.keys() & made_of.keys())


@dataclass(frozen=True, slots=True)
class SessionDays:
    """The summaries of some days of a session. Made by `LakeSession.of_days`."""

    lake: LakeSession
    days: Collection[date] | None
    """Days in the session's zone; None: all."""
    utc_days: tuple[date, ...] | None
    """The UTC days that overlap them; None: all."""

    def query(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> Answer:
        """Runs one query over summaries; as `LakeSession.query`."""
        return self.lake.query(self._of_zone(sql), parameters)

    def arrow(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> pa.Table:
        """Runs one query over summaries; as `LakeSession.arrow`."""
        return self.lake.arrow(self._of_zone(sql), parameters)

    def _of_zone(self, sql: str) -> str:
        if self.lake.local is None:
            return sql
        tables = local_summaries(self.lake.local, summaries_in(sql), self.days)
        return f"{tables} SELECT * FROM (\n{sql}\n)"  # noqa: S608 - own queries


def _tables_in(parsed: object, named: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yields the names of the tables that a parsed query reads, in lower case.

    Args:
        parsed: A part of the result of `json_serialize_sql`.
        named: Names that a surrounding `WITH` defines, so they are not tables of the session.
    """
    if isinstance(parsed, dict):
        name = str(parsed.get("table_name", "")).lower()
        if parsed.get("type") == "BASE_TABLE" and (parsed.get("schema_name") or name not in named):
            yield name
        for each in parsed.get("cte_map", {}).get("map", ()):
            yield from _tables_in(each["value"], named)  # it can use the ones before it, but not itself
            named |= {str(each["key"]).lower()}
        parsed = [part for key, part in parsed.items() if key != "cte_map"]
    if isinstance(parsed, list):
        for part in parsed:
            yield from _tables_in(part, named)


@contextlib.contextmanager
def open_lake(
    store: ObjectStore,
    *,
    settings: Settings | None = None,
    cache_dir: Path | None = None,
    days: Sequence[date] | None = None,
    zone: tzinfo | None = None,
    stored: Mapping[str, str] | None = None,
    summaries: Collection[str] = (),
    is_locked: bool = True,
) -> Iterator[LakeSession]:
    """Opens the lake at the current moment.

    Args:
        settings: Settings of summaries; default: the default settings, which count everything.
        cache_dir: Folder of the cache; default: `${XDG_CACHE_HOME:-~/.cache}/imgpipeline/lake`.
        days: Only these days, so that fewer tables are fetched; default: all.
        zone: The time zone of `days`, which it needs. `day` and `hour` are then local in all tables except `segments`
            and `dead_letters`; default: UTC.
        stored: Show only these versions of stored tables, e-tags by key, and no newer segment. The store is not listed;
            needs `days`, whose day tables must all be named.
        summaries: The only tables of the session, by name. Then other tables are fetched only of days on which one of
            these summaries is not current.
        is_locked: False for SQL of this project only: queries can then read and write any file.

    Yields:
        The session; its files are removed when the context ends, the cache stays.

    Raises:
        LedgerError: A segment newer than the day tables cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or the local disk cannot be used.
        TransientError: The store does not answer, or a build of a `stored` day is under way.
    """
    memory = settings.duckdb_memory if settings else None
    with open_cache(store, cache_dir) as (folder, cache), open_engine(folder, memory=memory) as engine:
        # A report names the versions that it shows, and its numbers are counted.
        linking = None if zone or stored is not None else settings
        shared = _Shared(store, cache, days, linking, _parameters(settings), stored)
        if summaries and settings:
            snapshot = _show_only(engine, shared, settings, summaries)
        else:
            shared.days = sorted(utc_days(days)) if zone and days else days
            snapshot = take_snapshot(store, engine, cache, shared.days, stored)
            if zone and days:
                create_time_macros(engine, local_days(zone, min(days), max(days)))
                show_local_days(engine, SHOWN_LETTERS, days)
            create_histogram_views(engine)
            create_summary_views(engine, settings)
            create_ledger_tables(engine)
            create_derived_tables(engine)
            create_macros(engine)
        if is_locked:
            lock(engine)
        yield LakeSession(shared, engine, snapshot)


def _show_only(engine: Engine, shared: _Shared, settings: Settings, summaries: Collection[str]) -> Snapshot:
    """Shows some summaries. The tables are those of the days on which one of the summaries is not current."""
    states, days, names = StoredStates(shared.store, open_catalog(shared.store)), shared.days, with_inputs(summaries)
    for table in {*names, *(table for name in names for table in SUMMARIES[name].inputs)}:
        listed = states.listed(table)
        if table in names:
            shared.listed[table] = {day: e_tag for day, e_tag in listed.items() if days is None or day in days}
    of_names = {name: shared.listed[name] for name in names}
    shared.linked = link_current(shared.cache, engine.folder, settings, of_names, states.is_complete)
    known = {day for day in states.catalog.days if days is None or day in days}
    shown = tuple(sorted(known.union(*(shared.listed[name] for name in summaries))))
    counted = [day for day in shown if any(day not in shared.linked[name] for name in summaries)]
    snapshot = Snapshot(states.catalog.ends, (), 0)
    if counted:
        snapshot = take_snapshot(shared.store, engine, shared.cache, counted, catalog=states.catalog)
    else:
        states.catalog.save()
        show_nothing(engine)
    set_parameters(engine, shared.parameters)
    for name in names:
        shared.looked_at[name].update(shown)
        show_summary(engine, SUMMARIES[name], shared.linked[name])
    return replace(snapshot, days=shown)


def create_summary_views(engine: Engine, settings: Settings | None) -> None:
    """Creates a view for each summary over the tables of a snapshot, by the days and hours of the engine's macros."""
    set_parameters(engine, _parameters(settings))
    for summary in SUMMARIES.values():
        show_summary(engine, summary, {})


def _parameters(settings: Settings | None) -> dict[str, float]:
    """Returns the settings that summaries read, by name."""
    if settings is None:
        return {}
    return {name: value for each in SUMMARIES.values() for name, value in parameters_of(each, settings).items()}


@contextlib.contextmanager
def query_errors(sql: str = "") -> Iterator[None]:
    """Turns DuckDB's errors in a user's query, `sql`, into errors that say what to do."""
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise PermanentError(
            f"This machine cannot run the query: {error}",
            next_step="free memory or disk space, or ask for fewer days or columns",
        ) from None
    except duckdb.Error as error:
        tables = [table.name for table in ALL]
        read = next((name for name in map(str.lower, _READ_TABLE.findall(sql)) if name in tables), FRAMES.name)
        raise ConfigurationError(
            f"DuckDB rejects the query: {error}",
            next_step=f'list the columns: imgpipeline query "DESCRIBE {read}"; the tables are {", ".join(tables)}',
        ) from None
