"""Whether a source is silent for longer than it may be, by the stored tables alone: cheap enough to be asked often.

Of sources that send notices the last session must not have ended; others are judged only if the setting names them. If
the ledger has newer segments than the tables, the sources are judged as of the time when these were built.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import day_of, format_time
from imgpipeline.lake.build.day_catalog import join_versions, open_catalog
from imgpipeline.lake.build.summary_inputs import list_versions, stored_key
from imgpipeline.lake.query.source_status import LAST_NOTICES, LISTED_DAYS, SourceState
from imgpipeline.lake.schema import NOTICES, SOURCE_ACTIVITY
from imgpipeline.lake.storage.cache import open_cache
from imgpipeline.lake.storage.engine import Engine, all_rows, open_engine
from imgpipeline.lake.storage.manifest import parse_footer
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.settings.variables import SourceLimits

_TABLES = (NOTICES, SOURCE_ACTIVITY)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Silence:
    """Which sources are silent for too long."""

    sources: int
    """How many sources were looked at."""
    found: Mapping[str, str]
    """What is said of each source that is silent, or offline, for too long."""

    @property
    def said(self) -> str:
        """The verdict for a person."""
        if not self.found:
            return f"None of {counted(self.sources, 'source')} is silent for too long."
        shown = "; ".join(list(self.found.values())[:_SHOWN])
        more = f"; and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
        count = f"{len(self.found)} of {counted(self.sources, 'source')}"
        return f"{count}: {shown}{more}. The command imgpipeline sources status shows all."


@dataclass(frozen=True, slots=True)
class _Sign:
    """The last that came from one source."""

    at: datetime
    kind: str | None
    reason: str
    changed_at: datetime | None


def judge_silence(store: ObjectStore, settings: Settings, *, now: datetime) -> Silence:
    """Says whether a source is silent, or offline, for longer than `IMGPIPELINE_SOURCE_SILENT_S`.

    Args:
        store: The object store.
        settings: The limits.
        now: The clock.

    Raises:
        LedgerError: The end of a chain cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or the local disk cannot be used.
        TransientError: The store does not answer.
    """
    with _open_last_days(store, settings, now) as (engine, built_at):
        signs = _read_signs(engine)
    as_of = now if built_at is None else built_at
    limits = settings.silence_limits
    found = {source: text for source, sign in signs.items() if (text := _judge(source, sign, limits, as_of))}
    return Silence(len(signs), found)


def _judge(source: str, sign: _Sign, limits: SourceLimits, as_of: datetime) -> str | None:
    """Returns what is wrong with a source; None if nothing is."""
    limit_s = limits.of(source)
    if limit_s is None or sign.kind == SourceState.ENDED.value:
        return None
    if sign.kind is None and source not in limits.by_source:
        return None  # it sends no notices, so it is unknown whether it has ended
    is_offline = sign.kind == SourceState.OFFLINE.value and sign.changed_at is not None
    since = sign.changed_at if is_offline and sign.changed_at else sign.at
    if (as_of - since).total_seconds() <= limit_s:
        return None
    how = f"offline ({sign.reason})" if is_offline and sign.reason else "offline" if is_offline else "silent"
    return f"{source} is {how} since {format_time(since)[:19]}Z, longer than {limit_s:,.0f} s"


def _read_signs(engine: Engine) -> dict[str, _Sign]:
    last_frames = dict(
        engine.run("SELECT source, max(last_seen) FROM source_activity WHERE source IS NOT NULL GROUP BY source")
    )
    notices = {source: (told_at, change) for source, told_at, change in engine.run(LAST_NOTICES)}
    signs = {}
    for source in sorted({*last_frames, *notices}):
        told_at, change = notices.get(source, (None, None))
        times = [at for at in (last_frames.get(source), told_at) if at]
        kind = change[2] if change else None if told_at is None else "account"
        if times:
            signs[source] = _Sign(max(times), kind, change[3] if change else "", change[0] if change else None)
    return signs


@contextmanager
def _open_last_days(store: ObjectStore, settings: Settings, now: datetime) -> Iterator[tuple[Engine, datetime | None]]:
    """Opens the stored tables of the last days, with the time they were built if the ledger has newer segments."""
    first = day_of(now) - timedelta(days=LISTED_DAYS)
    catalog = open_catalog(store)
    with open_cache(store) as (folder, cache), open_engine(folder, memory=settings.duckdb_memory) as engine:
        built: dict[date, datetime] = {}
        behind: set[date] = set()
        for table in _TABLES:
            parts = []
            for day, e_tag in list_versions(store, table.name).items():
                path = folder / f"{table.name}-{day}.parquet"
                if day < first or cache.link(stored_key(table.name, day), e_tag, path) is None:
                    continue
                parts.append(all_rows(path, day=day))
                manifest = parse_footer(path, stored_key(table.name, day))
                built[day] = min(manifest.built_at, built.get(day, now))
                if catalog.has_news(day, f"silence {table.name}", join_versions([e_tag]), manifest.ends):
                    behind.add(day)
            typed = ", ".join(f'"{column.name}" {column.duckdb_type}' for column in table.columns)
            engine.run(f"CREATE TABLE {table.name} ({typed})")
            for rows in parts:
                engine.run(f"INSERT INTO {table.name} BY NAME {rows}")
        cache.trim()
        catalog.save()
        unbuilt: Mapping[date, datetime] = {day: built.get(day, now) for day in behind}
        yield engine, min(unbuilt.values(), default=None)
