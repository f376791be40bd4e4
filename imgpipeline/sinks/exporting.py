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

from imgpipeline.contracts.keys import sink_status_key
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import Clock, format_time, utc_now
from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError
from imgpipeline.faultpoints import reach
from imgpipeline.lake.days.summary_inputs import ShowDay, list_versions, open_each_day, stored_key
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.storage.engine import engine_errors
from imgpipeline.lake.storage.manifest import BaseManifest, read_object
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.settings.tables import SinkSettings
from imgpipeline.sinks.configuration import load_sinks, open_sink
from imgpipeline.sinks.protocol import Sink, SinkConfig, SinkTable, StoredDay

BATCH_ROWS = 50_000
"""Rows that are in memory at once."""
_READERS = 16
ALL_DAYS = Span()
_LONGEST_SILENCE = timedelta(hours=3)
"""Dagster compares each sink every hour."""


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

    def __str__(self) -> str:
        return f"{self.table.name} of {self.day}: {counted(self.rows, 'row')}, {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """A sink after its last export, as the store keeps it for `status`, `doctor` and the viewer."""

    name: str
    checked_at: datetime | None = None
    """When the last export ended; None before the first one."""
    days_behind: int | None = None
    """Days that it lacks or has in another version; None if it did not answer."""
    error: str | None = None
    behind_since: datetime | None = None
    """Since when exports have failed."""

    def problem(self, now: datetime) -> str | None:
        """Returns why the sink may lack days, in one sentence; None if it is current."""
        if self.checked_at is None:
            return "never exported to"
        if self.error:
            return f"behind since {format_time(self.behind_since or self.checked_at)}: {self.error}"
        if self.days_behind:
            return f"{counted(self.days_behind, 'day')} behind; the next export continues"
        is_old = now - self.checked_at > _LONGEST_SILENCE
        return f"no export since {format_time(self.checked_at)}; check that sinks_sensor is on" if is_old else None


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

    def differences(self) -> list[Difference]:
        """Compares the versions of all days; the newest day comes first.

        Raises:
            ImgpipelineError: The store or the sink cannot be read.
        """
        found = [each for table in self.tables for each in self._compare(table)]
        return sorted(found, key=lambda each: each.day, reverse=True)

    def export(self, span: Span = ALL_DAYS) -> Iterator[Exported]:
        """Copies or removes the days that differ, and yields each one; stores the state of the sink at the end.

        A day that is not over is left out if it was exported shortly before. A day that the sink refuses does not hold
        back the others.

        Raises:
            ConfigurationError: The sink refuses the login.
            PermanentError: The sink or the store refused days; the message names the first one. Or the store has no day
                at all, but the sink has some: the setting may name a wrong store.
            TransientError: The sink or the store does not answer; the days before it are exported.
        """
        left: list[Difference] | None = None
        others: list[Difference] = []
        refused: list[tuple[Difference, PermanentError]] = []
        try:
            due = [each for each in self._safe_differences() if self._is_due(each)]
            others = [each for each in due if each.day not in span]
            left = [each for each in due if each.day in span]
            with open_each_day(self.store, memory=self.settings.duckdb_memory) as show:
                while len(left) > len(refused) and not self.is_over():  # refused days stay at the beginning of `left`
                    try:
                        yield self._replace(left[len(refused)], show)
                        left.pop(len(refused))
                    except ConfigurationError:
                        raise
                    except PermanentError as error:
                        refused.append((left[len(refused)], error))
            if refused:
                raise _refusal(self.config.name, refused)
        except ImgpipelineError as error:
            self._record(str(error), None if left is None else left + others)
            raise
        self._record(None, left + others)

    def remove(self, span: Span = ALL_DAYS) -> dict[str, int]:
        """Removes exported days from the sink, and returns their number by table.

        Raises:
            ImgpipelineError: The store or the sink cannot be read or written.
        """
        removed: dict[str, int] = {}
        for table in self.tables:
            days = [day for day in self.sink.stored_days(table) if day in span]
            for day in days:
                self.sink.remove_day(table, day)
            removed[table.name] = len(days)
        self._record(None, self.differences())
        return removed

    def _safe_differences(self) -> list[Difference]:
        found = self.differences()
        if found and all(each.version is None for each in found) and not any(map(self._has_days, self.tables)):
            raise PermanentError(
                f"The store {self.store.url} has no days, so all days of {self.config.name} would be removed.",
                next_step="check IMGPIPELINE_STORE_URL; `imgpipeline sinks remove` removes the days of a sink",
            )
        return found

    def _is_due(self, difference: Difference) -> bool:
        now, there = self.clock(), difference.there
        pause = timedelta(seconds=self.settings.sinks_today_s)
        return there is None or difference.day < now.date() or now - there.exported_at >= pause

    def _record(self, error: str | None, left: Sequence[Difference] | None) -> None:
        """Stores the state of the sink."""
        now = self.clock().replace(microsecond=0)
        since = _read_status(self.store, self.config.name).behind_since or now
        behind = None if left is None else len({each.day for each in left})
        status = SinkStatus(self.config.name, now, behind, error, since if error else None)
        self.store.put(sink_status_key(self.config.name), _STATUS.dump_json(status))

    def _has_days(self, table: SinkTable) -> bool:
        return bool(list_versions(self.store, table.stored[0]))

    def _compare(self, table: SinkTable) -> Iterator[Difference]:
        there = self.sink.stored_days(table)
        versions = _versions(self.store, table)
        for day in there.keys() | versions.keys():
            version, stored = versions.get(day), there.get(day)
            if stored is None or stored.version != version:
                yield Difference(table, day, version, stored)

    def _replace(self, difference: Difference, show: ShowDay) -> Exported:
        table, day, began = difference.table, difference.day, monotonic()
        count = 0
        if difference.version is None:
            self.sink.remove_day(table, day)
        else:
            opened = show(table.stored, day, ())
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


def _refusal(name: str, refused: Sequence[tuple[Difference, PermanentError]]) -> PermanentError:
    first, why = refused[0]
    days = counted(len(refused), "day")
    return PermanentError(
        f"{name} did not take {days} of its tables, such as {first.table.name} of {first.day}: {why.message}",
        next_step=why.next_step,
    )


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


def read_statuses(store: ObjectStore, settings: SinkSettings) -> list[SinkStatus]:
    """Returns the state of each configured sink.

    Raises:
        ConfigurationError: The setting `sinks` is invalid.
        TransientError: The store does not answer.
    """
    return [_read_status(store, config.name) for config in load_sinks(settings)]


def _read_status(store: ObjectStore, name: str) -> SinkStatus:
    with suppress(ObjectMissingError, ValidationError):
        return _STATUS.validate_json(store.get(sink_status_key(name)))
    return SinkStatus(name)
