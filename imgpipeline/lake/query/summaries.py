"""Counts over some days: the questions of `imgpipeline summary`, `Lake.label_counts` and others.

Each question is one file in `sql/` that only reads summaries, whatever the number of days. Current summaries are read
from the store; stale ones are computed from day tables and ledger, as a build would. So a year costs a few listings and
one small file per day. docs/tables.md names the columns that can be added up.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import UsageError
from imgpipeline.lake.days.day_catalog import DayCatalog, join_versions, open_catalog
from imgpipeline.lake.days.derived import Origin, State, judge
from imgpipeline.lake.days.summaries import SUMMARIES, find_summary, recipe, summary_origin
from imgpipeline.lake.days.summary_inputs import list_versions, stored_key
from imgpipeline.lake.query.days import Span, days_of
from imgpipeline.lake.schema.tables import FRAME_STATS, LABEL_COUNTS, SOURCE_ACTIVITY, Table
from imgpipeline.lake.sessions.local_time import create_time_macros, in_zone, local_days, show_local_days, utc_days
from imgpipeline.lake.sessions.session import Answer, LakeSession, create_summary_views, query_errors
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS, take_snapshot
from imgpipeline.lake.storage.cache import LakeCache, open_cache
from imgpipeline.lake.storage.engine import Engine, identifier, lock, open_engine, rows_with_days
from imgpipeline.lake.storage.manifest import Manifest, parse_footer, read_stored
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
        is_recounted = local is not None and not (local.has_whole_hours and _BY_HOUR.issuperset(wanted))
        current = {name: {} if is_recounted else found.current(name) for name in wanted}
        cache.trim()
        found.catalog.save()
        counted_now = {name: tuple(day for day in shown if day not in current[name]) for name in wanted}
        behind = sorted({day for several in counted_now.values() for day in several})
        if behind:
            take_snapshot(store, engine, cache, behind)
            if local and is_recounted:
                create_time_macros(engine, local)
                show_local_days(engine, SHOWN_LETTERS)
            create_summary_views(engine, settings)
        engine.run(f"CREATE SCHEMA {_SPAN}")
        for name, table in wanted.items():
            _create(engine, table, list(current[name].values()), counted_now[name], all_days=is_recounted)
        if local:
            create_time_macros(engine, local)
            for table in wanted.values():
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
            found = read_stored(self.store, stored_key(table, day))
            self._read[table, day] = found.manifest.version if found else ""
        return self._read[table, day]


VIEWS: Mapping[str, tuple[str, ...]] = {
    "label_counts": (LABEL_COUNTS.name, FRAME_STATS.name),
    "label_totals": (LABEL_COUNTS.name, FRAME_STATS.name),
    "hours": (FRAME_STATS.name, LABEL_COUNTS.name),
    "sizes": (FRAME_STATS.name,),
    "sources": (SOURCE_ACTIVITY.name, FRAME_STATS.name),
}
"""All questions by name, each with the summaries that it reads. The first one tells which models were in use."""


GROUPS = ("day", "hour", "source", "label")
"""Columns by which label counts can be grouped, in their order."""
_USUAL_GROUPS = {"label_counts": ("day", "hour", "label"), "label_totals": ("label",)}


@dataclass(frozen=True, slots=True)
class LabelChoice:
    """A selection of label counts, and their groups."""

    sources: tuple[str, ...] = ()
    """Only these; empty: all."""
    labels: tuple[str, ...] = ()
    """Only these; empty: all."""
    by: tuple[str, ...] = ()
    """Columns of `GROUPS` to group by; empty: the usual ones of the question, over all sources."""
    by_name: str = "by"
    """Name of `by` in error messages."""

    def __post_init__(self) -> None:
        """Raises UsageError if `by` names an unknown column."""
        for group in self.by:
            if group not in GROUPS:
                raise UsageError(f"{self.by_name} is {group!r}.", next_step=f"give some of {', '.join(GROUPS)}")

    @property
    def knows_frames(self) -> bool:
        """Whether frames can be counted; a sum over labels would count a frame with two labels twice."""
        return not self.by or "label" in self.by or len(set(self.labels)) == 1


@dataclass(frozen=True, slots=True)
class SummaryAnswer:
    """The answer to a question."""

    table: pa.Table
    """Columns and rows; times are UTC."""
    zone: tzinfo
    frames: int | None
    """Number of all frames; None if the question is about labels."""
    mixed_models: Mapping[date, tuple[str, ...]]
    """Days with more than one model or threshold, with `name sha256 >threshold` of each."""

    @property
    def answer(self) -> Answer:
        """Columns and rows as Python values; times are local, with their offset from UTC."""
        columns = [self.table.column(name).to_pylist() for name in self.table.column_names]
        answer = Answer(tuple(self.table.column_names), list(zip(*columns, strict=True)))
        return _in_zone(answer, self.zone)


def summarise(
    store: ObjectStore, settings: Settings, name: str, span: Span, choice: LabelChoice | None = None
) -> SummaryAnswer:
    """Answers one question about days of the settings' time zone.

    Args:
        store: The object store.
        settings: Settings of summaries.
        name: A key of `VIEWS`.
        span: The days.
        choice: For questions about labels: the counts and their groups.

    Raises:
        LedgerError: A segment newer than a day's summaries cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or the local disk cannot be used.
        TransientError: The store does not answer.
    """
    zone = find_timezone(settings.timezone)
    days = None if span.is_all else days_of(store, span, with_neighbours=zone is not UTC)
    with open_summaries(store, settings, VIEWS[name], days=days, zone=zone) as opened:
        return _answer(opened, name, choice, zone)


def ask_session(lake: LakeSession, name: str, days: Sequence[date], choice: LabelChoice | None = None) -> SummaryAnswer:
    """Answers one question about days of a query session, in its time zone and at its moment.

    Args:
        lake: The session, opened with the settings of summaries.
        name: A key of `VIEWS`.
        days: Only these.
        choice: As for `summarise`.

    Raises:
        PermanentError: This machine has too little memory or disk.
    """
    zone = lake.local.zone if lake.local else UTC
    return _answer(_DaysOfSession(lake, tuple(days)), name, choice, zone)


@dataclass(frozen=True, slots=True)
class HourlyCount:
    """One row of the summary `label_counts`: its key and count."""

    hour: datetime
    """Start of the hour in the session's time zone."""
    source: str | None
    label: str
    count: int


def hourly_counts(lake: LakeSession, days: Sequence[date]) -> list[HourlyCount]:
    """Returns the rows of the summary `label_counts` of some days, without times, models and observed time.

    This is much faster than `ask_session`, which spends most of its time on those.

    Args:
        lake: The session, opened with the settings of summaries.
        days: Only these days of the session's zone.

    Raises:
        PermanentError: This machine has too little memory or disk.
    """
    rows = _DaysOfSession(lake, tuple(days)).query("SELECT hour, source, label, count FROM label_counts").rows
    zone = lake.local.zone if lake.local else UTC
    return [HourlyCount(in_zone(hour, zone), *values) for hour, *values in rows]


class _Tables(Protocol):
    """Tables with the summaries of some days, under their names."""

    def query(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> Answer: ...

    def arrow(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> pa.Table: ...


@dataclass(frozen=True, slots=True)
class _DaysOfSession:
    """The summaries of some days of a session."""

    lake: LakeSession
    days: tuple[date, ...]

    def query(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> Answer:
        return self.lake.query(self._of_days(sql), parameters)

    def arrow(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> pa.Table:
        return self.lake.arrow(self._of_days(sql), parameters)

    def _of_days(self, sql: str) -> str:
        return f"{self.lake.summaries_of(self.days)} SELECT * FROM (\n{sql}\n)"  # noqa: S608 - own queries


def _answer(tables: _Tables, name: str, choice: LabelChoice | None, zone: tzinfo) -> SummaryAnswer:
    first, frames = VIEWS[name][0], None
    if first == FRAME_STATS.name:
        frames = int(tables.query("SELECT coalesce(sum(frames), 0) FROM frame_stats").rows[0][0])
    if name in _USUAL_GROUPS:
        table = _count_labels(tables, name, choice or LabelChoice())
    else:
        table = tables.arrow(view_sql(name))
    return SummaryAnswer(table, zone, frames, _mixed_models(tables, first))


def _count_labels(span: _Tables, name: str, choice: LabelChoice) -> pa.Table:
    groups = [group for group in GROUPS if group in (choice.by or _USUAL_GROUPS[name])]
    counts = view_sql(name).replace("{by}", ", ".join(groups))
    if name == "label_counts" and not choice.knows_frames:
        counts = f"SELECT * EXCLUDE (distinct_frames) FROM (\n{counts})\n"  # noqa: S608 - own query, own names
    sql = _with_observed_time(counts, name, groups, choice)
    return span.arrow(sql, {"sources": list(choice.sources), "labels": list(choice.labels)})


def _with_observed_time(counts: str, name: str, groups: list[str], choice: LabelChoice) -> str:
    """Returns the query of counts with observed time, and with zeros for chosen labels that were not seen."""
    watched = [group for group in groups if group != "label"]
    joined, keys = "LEFT JOIN observed", watched
    if choice.labels:
        is_by_label = "label" in groups
        every = "(SELECT * FROM observed, (SELECT unnest($labels) AS label)) AS observed" if is_by_label else "observed"
        joined, keys = f"FULL JOIN {every}", groups
    frames = ["distinct_frames"] if choice.knows_frames else []
    named = ["count", "days"] if name == "label_totals" else ["count", *frames, "distinct_sources"]
    parts = {
        "counts": counts,
        "by": ", ".join(groups),
        "watched": "".join(f"{group}, " for group in watched),
        "zeros": ", ".join(f"coalesce({column}, 0) AS {column}" for column in named),
        "named": ", ".join(named),
        "joined": joined,
        "keys": ", ".join(["one", *keys]),
        "order": ", ".join([*(["count DESC"] if name == "label_totals" else []), *groups]),
    }
    sql = view_sql("observed")
    for part, text in parts.items():
        sql = sql.replace(f"{{{part}}}", text)
    return sql


def _in_zone(answer: Answer, zone: tzinfo) -> Answer:
    """Converts times to local time; an hour becomes the full hour, even if the clock changed within it."""
    if zone is UTC:
        return answer

    def shown(column: str, value: Any) -> Any:
        if not isinstance(value, datetime):
            return value
        local = in_zone(value, zone)
        return local.replace(minute=0, second=0) if column == "hour" else local

    return Answer(answer.columns, [tuple(map(shown, answer.columns, row)) for row in answer.rows])


def view_sql(name: str) -> str:
    """Returns the query of a question."""
    return resources.files("imgpipeline.lake.query").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def _mixed_models(span: _Tables, table: str) -> dict[date, tuple[str, ...]]:
    rows = span.query(
        f"SELECT day, list_sort(list_distinct(flatten(list(models)))) AS used FROM {table} "  # noqa: S608 - own names
        "GROUP BY day HAVING len(used) > 1 ORDER BY day"
    ).rows
    return {day: tuple(models) for day, models in rows}
