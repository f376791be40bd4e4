"""Copies the days that differ between the store and a sink, and records how far the sink is behind."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from time import monotonic

from pydantic import TypeAdapter, ValidationError

from imgpipeline.contracts.keys import SINKS, sink_status_key
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.errors import ImgpipelineError, PermanentError, TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.lake.days.summary_inputs import list_versions, open_tables, stored_key
from imgpipeline.lake.storage.engine import engine_errors
from imgpipeline.lake.storage.manifest import BaseManifest, read_object
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.sinks.configuration import open_sink
from imgpipeline.sinks.protocol import Sink, SinkConfig, SinkTable, StoredDay

BATCH_ROWS = 50_000
"""Rows that are in memory at once."""
_READERS = 16


@dataclass(frozen=True, slots=True)
class Difference:
    """A day of a table that a sink lacks, has in another version, or should not have."""

    table: SinkTable
    day: date
    version: str | None
    """The version in the store; None: the day is to be removed from the sink."""
    there: StoredDay | None
    """What the sink has; None: nothing."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A day that was copied or removed."""

    table: SinkTable
    day: date
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """A sink after its last export, as the store keeps it for `status`, `doctor` and the viewer."""

    name: str
    checked_at: datetime
    """When the export ended."""
    days_behind: int | None = None
    """Days that differ; None if the sink did not answer."""
    error: str | None = None
    """Why days differ; None: they are due, or excluded by the setting `sinks_today_s`."""
    behind_since: datetime | None = None
    """Since when exports have failed."""


_STATUS = TypeAdapter(SinkStatus)


@dataclass(slots=True)
class Exporter:
    """Exports to one sink."""

    store: ObjectStore
    settings: Settings
    config: SinkConfig
    clock: Clock = utc_now
    is_over: Callable[[], bool] = lambda: False
    """Asked before each day; once true, the rest is left to the next export."""
    sink: Sink = field(init=False)
    tables: tuple[SinkTable, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.sink, self.tables = open_sink(self.config)

    def differences(self, first: date = date.min, last: date = date.max) -> list[Difference]:
        """Compares the versions of these days, both included; the newest day comes first.

        Raises:
            ImgpipelineError: The store or the sink cannot be read.
        """
        found = [each for table in self.tables for each in self._compare(table) if first <= each.day <= last]
        return sorted(found, key=lambda each: each.day, reverse=True)

    def due(self, differences: Sequence[Difference]) -> list[Difference]:
        """Returns the differences without days that are not over and were exported shortly before."""
        now = self.clock()
        since = now - timedelta(seconds=self.settings.sinks_today_s)
        return [
            each
            for each in differences
            if each.day < now.date() or each.there is None or each.there.exported_at <= since
        ]

    def export(self, differences: Sequence[Difference]) -> Iterator[Exported]:
        """Copies or removes days, and yields each one; stores the state of the sink at the end.

        A day that the sink refuses does not hold back the others.

        Raises:
            PermanentError: The sink or the store refused days; the message names the first one.
            TransientError: The sink or the store does not answer; the days before it are exported.
        """
        refused: list[tuple[Difference, PermanentError]] = []
        done = 0
        try:
            for difference in differences:
                if self.is_over():
                    break
                try:
                    yield self._replace(difference)
                    done += 1
                except PermanentError as error:
                    refused.append((difference, error))
        except TransientError as error:
            self.record(str(error), len(differences) - done)
            raise
        if refused:
            first, why = refused[0]
            message = (
                f"{self.config.name} did not take {counted(len(refused), 'day')} of its tables, such as "
                f"{first.table.name} of {first.day}: {why}"
            )
            self.record(message, len(refused))
            raise PermanentError(message)
        self.record(None, len(differences) - done)

    def record(self, error: str | None, days_behind: int | None) -> None:
        """Stores the state of the sink."""
        now = self.clock()
        before = next((each for each in read_statuses(self.store) if each.name == self.config.name), None)
        since = (before.behind_since if before else None) or now
        status = SinkStatus(self.config.name, now, days_behind, error, since if error else None)
        self.store.put(sink_status_key(self.config.name), _STATUS.dump_json(status))

    def _compare(self, table: SinkTable) -> Iterator[Difference]:
        there = self.sink.stored_days(table)
        versions = _versions(self.store, table)
        for day in there.keys() | versions.keys():
            version, stored = versions.get(day), there.get(day)
            if stored is None or stored.version != version:
                yield Difference(table, day, version, stored)

    def _replace(self, difference: Difference) -> Exported:
        table, day, began = difference.table, difference.day, monotonic()
        if difference.version is None:
            self.sink.remove_day(table, day)
            return Exported(table, day, 0, monotonic() - began)
        with open_tables(self.store, table.stored, day, memory=self.settings.duckdb_memory) as opened:
            version = _version(table, [manifest.content for manifest in opened.manifests.values()])
            with engine_errors():
                rows = opened.engine.connection.sql(table.query).to_arrow_reader(BATCH_ROWS)
            count = self.sink.replace_day(table, day, rows, version)
        reach("sink day", f"{self.config.name} {table.name} {day}")
        return Exported(table, day, count, monotonic() - began)


def _versions(store: ObjectStore, table: SinkTable) -> dict[date, str]:
    """Returns the version of each day that the store has of a table, in the order of days."""
    listed = {name: list_versions(store, name) for name in table.stored}
    days = sorted(day for day in listed[table.stored[0]] if all(day in tags for tags in listed.values()))

    def version_of(day: date) -> str | None:
        contents = [_content(store, stored_key(name, day), listed[name][day]) for name in table.stored]
        return _version(table, [content for content in contents if content]) if all(contents) else None

    with ThreadPoolExecutor(_READERS) as pool:
        return {day: version for day, version in zip(days, pool.map(version_of, days), strict=True) if version}


@lru_cache(maxsize=100_000)
def _content(store: ObjectStore, key: str, e_tag: str) -> str | None:  # noqa: ARG001 - the e-tag is part of the key
    stored = read_object(store, key, BaseManifest)
    return stored.manifest.content if stored else None


def _version(table: SinkTable, contents: Sequence[str]) -> str:
    return "-".join([*contents, table.recipe])


def row_differences(exporter: Exporter) -> dict[str, dict[date, tuple[int, int]]]:
    """Returns the days on which a sink has another number of rows than were written, by table: expected and actual."""
    wrong: dict[str, dict[date, tuple[int, int]]] = defaultdict(dict)
    for table in exporter.tables:
        counts, stored = exporter.sink.row_counts(table), exporter.sink.stored_days(table)
        for day in counts.keys() | stored.keys():
            expected = stored[day].rows if day in stored else 0
            if counts.get(day, 0) != expected:
                wrong[table.name][day] = (expected, counts.get(day, 0))
    return wrong


def read_statuses(store: ObjectStore) -> list[SinkStatus]:
    """Returns the stored state of each sink, by name."""
    found = []
    for info in store.list_objects(SINKS):
        with suppress(ImgpipelineError, ValidationError):
            found.append(_STATUS.validate_json(store.get(info.key)))
    return sorted(found, key=lambda status: status.name)
