"""Opens a day for the queries of its report: its stored tables or, where they are incomplete, a query session."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imgpipeline.contracts.keys import ChainId, day_table_key
from imgpipeline.contracts.records import RecordReference
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import TransientError
from imgpipeline.lake.build.day_rows import WORKING
from imgpipeline.lake.build.summary_inputs import stored_key
from imgpipeline.lake.schema import DAY_TABLES, DEAD_LETTERS, STORED_DEAD_LETTERS
from imgpipeline.lake.sessions.local_time import LocalDay
from imgpipeline.lake.sessions.session import Answer, create_summary_views, open_lake, query_errors
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS
from imgpipeline.lake.sessions.tables import create_derived_tables, say_what_became_of_them, show_derived_table
from imgpipeline.lake.storage.cache import open_cache
from imgpipeline.lake.storage.engine import Engine, all_rows, lock, open_engine
from imgpipeline.lake.storage.manifest import have_equal_ends, parse_footer
from imgpipeline.ledger.dead_letters import ReplayTrail
from imgpipeline.objectstore import ObjectStore
from imgpipeline.reports.inputs import FOUND_TABLES, ReportInputs
from imgpipeline.settings import Settings

_REPLAYS = f"""
SELECT source_kafka_topic, source_kafka_topic_id, source_kafka_partition, source_kafka_offset, replay_of, false,
       processing_timestamp
FROM frames WHERE replay_of IS NOT NULL
UNION ALL
SELECT topic, topic_id, partition, kafka_offset, replay_of, true, coalesce("timestamp", make_timestamptz(0))
FROM {SHOWN_LETTERS} WHERE replay_of IS NOT NULL
"""  # noqa: S608 - own names


class DayQueries(Protocol):
    """Answers queries about one day: its stored tables, or a query session."""

    def query(self, sql: str) -> Answer:
        """Runs one query."""


@dataclass(frozen=True, slots=True)
class StoredDay:
    """The stored tables of one day, without reading the ledger."""

    engine: Engine
    """DuckDB with the day tables, their summaries, dead letters with their state, and `FOUND_TABLES`."""

    def query(self, sql: str) -> Answer:
        """Runs one query; raises PermanentError if this machine lacks the memory or disk space for it."""
        with query_errors():
            answer = self.engine.connection.execute(sql)
            return Answer(tuple(column[0] for column in answer.description or ()), answer.fetchall())


@contextlib.contextmanager
def open_day(
    store: ObjectStore, settings: Settings, inputs: ReportInputs, cache_dir: Path | None = None
) -> Iterator[DayQueries]:
    """Opens a day: the stored tables of a UTC day if the ledger has nothing newer, otherwise a query session.

    Args:
        store: The object store.
        settings: The settings that summaries read.
        inputs: The day and the versions of its tables.
        cache_dir: Where fetched tables are kept; default: as for every query session.

    Yields:
        Answers queries about the day.

    Raises:
        DamagedObjectError: A table is not a Parquet file of this project.
        LedgerError: A segment newer than the tables cannot be read.
        PermanentError: The local disk cannot be used.
        TransientError: The store does not answer, or a build of the day is under way.
    """
    if inputs.manifests and not inputs.behind and not inputs.parts:
        with _open_stored_day(store, settings, inputs, cache_dir) as day:
            yield day
        return
    local_day = LocalDay(inputs.day, find_timezone(inputs.timezone)) if inputs.parts else None
    with open_lake(store, settings=settings, cache_dir=cache_dir, days=[inputs.day], local_day=local_day) as session:
        yield session


@contextlib.contextmanager
def _open_stored_day(
    store: ObjectStore, settings: Settings, inputs: ReportInputs, cache_dir: Path | None
) -> Iterator[StoredDay]:
    memory = settings.duckdb_memory
    with open_cache(store, cache_dir) as (folder, cache), open_engine(folder, memory=memory) as engine:
        engine.run(f"CREATE SCHEMA {WORKING}")
        manifests = []
        for table in DAY_TABLES:
            key = day_table_key(table.name, inputs.day)
            path = folder / key
            if cache.link(key, inputs.e_tags[key], path) is None:
                raise _under_way(inputs)
            manifests.append(parse_footer(path, key))
            name = SHOWN_LETTERS if table is STORED_DEAD_LETTERS else table.name
            engine.run(f"CREATE VIEW {name} AS {all_rows(path, day=inputs.day)}")
        if not have_equal_ends(manifests):
            raise _under_way(inputs)
        create_derived_tables(engine)
        for table in FOUND_TABLES:
            e_tag = inputs.e_tags.get(stored_key(table.name, inputs.day))
            show_derived_table(engine, cache, table, {inputs.day: e_tag} if e_tag else {})
        cache.trim()
        create_summary_views(engine, settings)
        _create_dead_letters(engine)
        lock(engine)
        yield StoredDay(engine)


def _create_dead_letters(engine: Engine) -> None:
    """Creates the table of dead letters with their outcome, as far as the day's own frames and dead letters tell."""
    said = "NULL::VARCHAR AS state, NULL::VARCHAR AS became"
    engine.run(f"CREATE TABLE {DEAD_LETTERS.name} AS SELECT *, {said} FROM {SHOWN_LETTERS}")  # noqa: S608 - own names
    trail = ReplayTrail()
    for topic, topic_id, partition, offset, replay_of, is_letter, at in engine.run(_REPLAYS):
        trail.note(RecordReference(ChainId(topic, topic_id, partition), offset), replay_of, is_letter, at)
    say_what_became_of_them(engine, trail)


def _under_way(inputs: ReportInputs) -> TransientError:
    return TransientError(
        f"The report of {inputs.day} cannot be built yet: the day's tables changed while they were read.",
        next_step="try again; a build of the day is under way",
    )
